"""Datasets that are fetched: one file a collection, and how files are had, checked and read."""
