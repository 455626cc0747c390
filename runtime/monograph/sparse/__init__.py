"""Vectors that are mostly zeros: from a graph's output to rows of active dimensions, and what is done with these."""
