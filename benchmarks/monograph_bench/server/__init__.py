"""Load on a server with OpenAI's API for embeddings."""
