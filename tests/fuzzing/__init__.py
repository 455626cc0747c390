"""Bundles, archives and texts that no honest program writes, and what the runtime makes of them: `scripts/fuzz`.

A case is a committed bundle with a few mutations. A process of its own makes and runs it as a caller would, so that a
crash or a hang is seen from outside. Every case is made of the seed, the kind and its number alone.

The mutators are our own and not those of a library for property-based tests: what they change are folders, protobuf
messages and tars rather than values of Python, and the process that a case ends could not shrink it.
"""
