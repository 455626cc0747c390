"""Measure bundles on this machine, beside what users would pick instead; and evaluate the quality of their vectors."""
