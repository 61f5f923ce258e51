"""The speed benchmark: PoolBench and its peers on the same work, in alternation. `python scripts/benchmark.py --help`.

`main` reads the command line; `harness` starts a process for each configuration and lets them take turns; `ours`,
`pyg`, `tgp` and `spektral` hold the same classifier four times; `forms` says which form of PoolBench's operators does
what a peer's does, `peers` who has which operator, and where one is known to deviate, and `chance` what becomes of
random choices where answers are compared; `ahead` has done once a dataset what can be, which `coarsening` measures;
`tables` writes what was measured.
"""
