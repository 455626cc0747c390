"""Bundles in other frameworks: one module per framework, which needs the framework installed.

Importing monograph, or this package, imports none of them.
"""
