"""Datasets that are generated: one file a generator."""
