"""Whether records hold: checks, and runs done again."""

TRUST, ALLOW_LARGE = "POOLBENCH_TRUST", "POOLBENCH_ALLOW_LARGE"
"""Variables that stand for the options --trust and --allow-large of what builds from records."""
