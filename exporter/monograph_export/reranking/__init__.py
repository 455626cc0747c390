"""Cross-encoders: one graph of pairs of texts, compared with sentence-transformers pair by pair."""
