"""KeyBERT: a bundle as backend. KeyBERT refuses an ``Embedder`` itself."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

from monograph.integrations.frameworks import KeywordBackend, missing

try:
    from keybert.backend import BaseEmbedder
except ImportError as error:
    raise missing("keybert", error) from error


class MonographBackend(KeywordBackend, BaseEmbedder):
    """A bundle that embeds documents and candidate keywords: ``KeyBERT(model=MonographBackend("minilm"))``.

    Args:
        embedding_model: A bundle's path, or an open ``Embedder``.
        device: Where a bundle is opened; None for the best device.
        prompt_name: Name of a prompt of the model for all texts; None for the model's default.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """
