"""What scripts/check_reference.py is made of: PoolBench's operators against recorded answers of other libraries."""
