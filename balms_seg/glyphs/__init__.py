"""The glyph toy data: long-tailed instance segmentation that trains in minutes on a CPU."""
