"""PoolBench: the benchmark for graph pooling."""

__version__ = "0.1.0"
