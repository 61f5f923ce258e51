"""Train a model with a pooling operator: python train.py pool=mincut dataset=PROTEINS."""

import sys

if __name__ == "__main__":
    try:
        from poolbench.cli import train
    except ModuleNotFoundError as error:
        made = "bash scripts/demo.sh makes an environment, .venv/bin/python, and so does pip install ."
        print(f"error: there is no module {error.name} in {sys.executable}: {made}", file=sys.stderr)
        sys.exit(2)
    sys.exit(train(sys.argv[1:]))
