"""Toy data that train in minutes on a CPU: glyphs, and collages of photographs."""
