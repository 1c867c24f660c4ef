"""Choosing post-hoc constants on held-out data."""
