"""Training: the Lightning module and data module, what is kept from epoch to epoch, and the loggers."""
