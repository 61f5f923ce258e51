"""Other libraries' operators, adapted to the contract."""
