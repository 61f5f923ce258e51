"""The speed benchmark: PoolBench and its peers on the same work, in alternation. `python scripts/benchmark.py --help`.

`main` reads the command line; `harness` starts a process for each configuration and lets them take turns; `ours`,
`pyg`, `tgp` and `spektral` hold the same classifier four times; `peers` says who has which operator, and where one is
known to deviate; `tables` writes what was measured.
"""
