"""What callers of sentence-transformers expect of a model beside its results: arguments, names, torch tensors."""
