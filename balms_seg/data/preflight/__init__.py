"""What can be wrong with data before the first iteration."""
