"""How far results could be off: intervals, comparisons, reliability of scores."""
