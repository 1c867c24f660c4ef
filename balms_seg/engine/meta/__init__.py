"""The meta step in a run."""
