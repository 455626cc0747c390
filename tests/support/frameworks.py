"""The frameworks that monograph.integrations is for, and the texts that are embedded and retrieved in each of them."""

from __future__ import annotations

import importlib.util
import re

from support.pages import FRAMEWORKS_PAGE, blocks

# The module of monograph.integrations -> the module of the framework.
FRAMEWORKS = {
    "bertopic": "bertopic",
    "chroma": "chromadb",
    "dspy": "dspy",
    "haystack": "haystack",
    "keybert": "keybert",
    "lancedb": "lancedb",
    "langchain": "langchain_core",
    "llama_index": "llama_index",
    "mteb": "mteb",
    "qdrant": "qdrant_client",
    "ray": "ray",
    "sklearn": "sklearn",
    "txtai": "txtai",
}
# That of the tiny bundle of these tests.
DOCUMENT_PROMPT = "store: "
# Frameworks that call what another module has: their requirements and tests -> the module of the framework.
RECIPES = {"daft": "daft", "datasets": "datasets", "spark": "pyspark"}
# What calls the server, and what tests it by its document: their requirements and tests -> the modules they need.
OF_SERVER = {"serve_clients": ("openai", "cohere", "langchain_openai"), "serve_schema": ("schemathesis",)}
# Modules that are imported without their framework, because others use them, too.
IMPORTED_WITHOUT = ("ray",)
DOCUMENTS = [
    "The night bus to the airport leaves every forty minutes from the old post office.",
    "The first bus to the airport on Sundays leaves at half past five.",
    "Refunds are paid to the card that was used, within ten working days.",
    "Without a receipt we exchange goods and pay nothing back.",
    "To reset the router, hold the small button at the back until the lights go out.",
    "The lights of the stairs go out by themselves after three minutes.",
    "The upper path is closed after heavy rain because stones may fall on it.",
    "After heavy rain the lower path is muddy, and open.",
    "Bread rises faster in a warm kitchen.\nIn a cold one it gains in taste.",
    "Молоко скисает быстрее в тёплой кухне.",
]
QUERIES = [
    "How do I get my money back?",
    "Which path can I take when it has rained?",
    "When can I ride to the plane on Sunday?",
    "The Wi-Fi box is stuck, what now?",
]


def is_installed(name: str) -> bool:
    """Return whether the framework of an integration can be imported here."""
    return importlib.util.find_spec((FRAMEWORKS | RECIPES)[name]) is not None


def snippets(name: str) -> list[str]:
    """Return the Python of the frameworks' page that uses an integration."""
    module = "ray" if name in RECIPES else name
    framework = "" if module == name != "ray" else rf"^(?:import|from) {(FRAMEWORKS | RECIPES)[name]}\b"
    return [
        block
        for block in blocks(FRAMEWORKS_PAGE, "python")
        if re.search(rf"monograph\.integrations\.{module}\b", block) and re.search(framework, block, re.MULTILINE)
    ]
