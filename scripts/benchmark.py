#!/usr/bin/env python3
"""Measure PoolBench's speed and memory beside its peers'. A thin door to the folder speed; docs/benchmarks.md.

python scripts/benchmark.py --quick                                  # does everything run here?
python scripts/benchmark.py --pools mincut topk --datasets PROTEINS  # two operators, one dataset
python scripts/benchmark.py --write docs/benchmarks/epochs.md        # the whole of it: some hours
"""

import sys

from speed.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
