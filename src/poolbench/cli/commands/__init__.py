"""One file a command, each with its click command as `command`; `poolbench.cli.table` lists them."""
