"""Measure systems in interleaved rounds, so that a slow phase of the machine meets all of them."""
