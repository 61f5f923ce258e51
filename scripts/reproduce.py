"""Reproduce a published table: python scripts/reproduce.py bianchi2020_mincut/classification (or --list, --help)."""

import sys

from poolbench.cli import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", *sys.argv[1:]]))
