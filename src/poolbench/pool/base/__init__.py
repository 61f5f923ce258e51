"""What operators are made of: the Select-Reduce-Connect contract, selections, the door, layers, helpers on the host."""
