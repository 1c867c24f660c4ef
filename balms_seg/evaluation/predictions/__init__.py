"""Predictions on disk and in memory: parts, result files, streams."""
