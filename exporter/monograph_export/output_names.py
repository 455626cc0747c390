"""What outputs are called: by the modules of sentence-transformers, and in the graph of a bundle."""

# Of embedding models and sparse encoders, in both.
OUTPUT_NAME = "sentence_embedding"
# What the modules of a cross-encoder call their output before any activation.
SCORES_NAME = "scores"
# The same in its graph, as transformers and optimum call it.
LOGITS_NAME = "logits"
