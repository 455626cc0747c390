"""Texts through a bundle: opened on a device, batched, computed, put back in order, and verified."""
