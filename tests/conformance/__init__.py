"""The conformance suite: bundles, texts, expected ids and vectors, and hostile bundles, for readers in any language."""
