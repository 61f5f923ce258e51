"""The commands: a line for each, and for each a module `poolbench.cli.commands.NAME` with its click command `command`.

A new command is a file there and a line here.
"""

from __future__ import annotations

COMMANDS = {
    "train": "train a model with a pooling operator, or many: poolbench pool=mincut means this",
    "prepare": "fetch and parse a dataset ahead of time",
    "list": "print the pools, models, datasets, protocols or perturbations that there are",
    "check": "hold an operator, your own or another, to the contract",
    "report": "tables, figures and a page from the records of a results folder",
    "status": "how far a sweep is",
    "tune": "search hyper-parameters; the best become an experiment",
    "predict": "what the model of a run says of graphs, as CSV",
    "rerun": "do a recorded run again and compare",
    "verify": "check records as a reader of the results would",
    "submit": "pack an operator's records for a repository of results",
    "forget": "set failed and mistaken runs aside; nothing is deleted",
    "equivalent": "show which versions of the code come to the same, by running witnesses again",
    "reproduce": "do the runs of a published table and set both side by side",
    "wandb-sweep": "print a search space as a file for wandb sweep",
    "sync": "upload the W&B runs that were made offline",
}
