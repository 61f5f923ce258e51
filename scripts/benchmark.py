#!/usr/bin/env python3
"""Measure PoolBench's speed and memory beside its peers'. A thin door to poolbench.bench.speed; docs/benchmarks.md.

python scripts/benchmark.py --quick                                  # does everything run here?
python scripts/benchmark.py --pools mincut topk --datasets PROTEINS  # two operators, one dataset
python scripts/benchmark.py --write docs/benchmarks.md               # the whole of it: some hours
"""

import sys

from poolbench.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
