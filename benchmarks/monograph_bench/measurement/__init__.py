"""Measure systems in turns, so that a slow phase of the machine meets all of them."""
