"""How good a model's vectors are, by the field's own tests: STS, translation, distance to a teacher, retrieval."""
