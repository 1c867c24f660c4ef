"""Losses for long-tailed recognition; pure torch."""
