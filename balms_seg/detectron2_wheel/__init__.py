"""Makes detectron2 0.6 installable where nobody can compile it."""
