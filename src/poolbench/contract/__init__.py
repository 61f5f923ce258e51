"""What every operator keeps to, as plain functions: `poolbench check` and the contract tests do them."""
