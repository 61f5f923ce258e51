"""Datasets: where they come from (`fetch`, `tu`, `synthetic`), what they hold (`raw`, `features`), their `splits`."""
