"""Readouts: operators that make one vector of a graph."""
