"""Names in the graph of a bundle."""

OUTPUT_NAME = "sentence_embedding"
