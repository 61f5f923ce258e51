"""Published tables, the recipes that reproduce them, and both side by side."""
