"""Reproduce a published table: python scripts/reproduce.py bianchi2020_mincut/classification (or --list, --help)."""

import sys

from poolbench.reproduction import reproduce

if __name__ == "__main__":
    sys.exit(reproduce(sys.argv[1:]))
