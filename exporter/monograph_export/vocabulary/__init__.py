"""Give a loaded model a smaller vocabulary: tokenizer and table of token embeddings, rewritten together."""
