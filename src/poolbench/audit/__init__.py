"""Whether records hold: checks, and runs done again."""
