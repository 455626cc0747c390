"""`monograph serve`: an HTTP server with the APIs of OpenAI, Cohere and text-embeddings-inference.

The only part of the runtime that imports FastAPI, uvicorn, orjson and prometheus-client, the extra ``serve``.
"""
