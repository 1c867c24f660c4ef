"""The numerical core of LVIS evaluation, in numpy."""
