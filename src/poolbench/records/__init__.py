"""What a run is, where it came from, and the record that it leaves."""
