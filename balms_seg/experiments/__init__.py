"""Several trainings side by side, and one table of what came out."""
