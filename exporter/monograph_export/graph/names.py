"""Names in the graph of a bundle."""

OUTPUT_NAME = "sentence_embedding"
# Of a cross-encoder's graph, as transformers and optimum call it.
LOGITS_NAME = "logits"
# What the modules of a cross-encoder call them before any activation.
SCORES_NAME = "scores"
