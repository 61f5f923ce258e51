"""Train a model with a pooling operator: python train.py pool=mincut dataset=PROTEINS."""

import sys

from poolbench.cli import train

if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]))
