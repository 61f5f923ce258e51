"""Runs and what becomes of them: identity, records, resume, statistics, tables."""
