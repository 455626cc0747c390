"""What is measured: monograph, and sentence-transformers in the types and with the attention that it has for GPUs."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from gpu_check.quantities import free_memory
from gpu_check.record import Record
from monograph import Embedder

Encode: TypeAlias = Callable[[list[str]], Any]
MONOGRAPH = "monograph"
# Batches of 32, the default, do not saturate a large GPU: the faster of these is taken for each workload.
PEER_BATCH_SIZES = (256, 1024)
PEER = "sentence-transformers"


class Peer:
    """A SentenceTransformer, with the batch size that was fastest for what it embeds."""

    def __init__(self, checkpoint: Path, device: str, dtype: str, attention: str = "sdpa") -> None:
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
        self.model = SentenceTransformer(str(checkpoint), device=device, model_kwargs=options, local_files_only=True)
        # Only the transformer is loaded in the type; a dense layer behind it would refuse its output.
        self.model.to(getattr(torch, dtype))
        self.batch_size = PEER_BATCH_SIZES[0]

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts; the result is on the host, as monograph's is."""
        vectors = self.model.encode(
            texts, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=False, convert_to_tensor=True
        )
        array: NDArray[np.float32] = vectors.float().cpu().numpy()
        return array

    def compile(self) -> None:
        """Compile the transformer in place, for shapes of any size; the first calls take long."""
        self.model[0].auto_model.compile(dynamic=True)


def load_systems(
    bundle: Path, checkpoint: Path, device: str, record: Record, *, compiled: bool = False
) -> dict[str, Encode]:
    """Load monograph and its peers one after the other, and record the device memory that each takes with a first call.

    One that cannot be loaded is recorded with its reason.
    """
    first = [f"{number} is the number of this text" for number in range(64)]
    loaders: dict[str, Callable[[], Encode]] = {
        MONOGRAPH: lambda: Embedder(bundle, device).encode,
        f"{PEER} float16": lambda: Peer(checkpoint, device, "float16"),
        f"{PEER} bfloat16": lambda: Peer(checkpoint, device, "bfloat16"),
    }
    if compiled:
        loaders[f"{PEER} float16, torch.compile"] = lambda: _compiled(checkpoint, device)
    elif importlib.util.find_spec("flash_attn") is not None:
        loaders[f"{PEER} bfloat16, FlashAttention"] = lambda: Peer(checkpoint, device, "bfloat16", "flash_attention_2")
    else:
        record.put(flash_attention="flash_attn is not installed")
    systems: dict[str, Encode] = {}
    taken: dict[str, int] = {}
    failures: dict[str, str] = {}
    for name, load in loaders.items():
        before = free_memory()
        try:
            systems[name] = load()
            systems[name](first)
        except Exception:
            systems.pop(name, None)
            failures[name] = traceback.format_exc()
            if name == MONOGRAPH:
                record.put(failures=failures)
                raise
        taken[name] = before - free_memory()
    record.put(device_memory_bytes=taken, failures=failures, device=device)
    return systems


def _compiled(checkpoint: Path, device: str) -> Peer:
    peer = Peer(checkpoint, device, "float16")
    peer.compile()
    return peer


def reference_vectors(checkpoint: Path, device: str, texts: list[str]) -> NDArray[np.float32]:
    """Return torch's vectors at float32 and batch size 1, float32 [n, d]."""
    model = SentenceTransformer(str(checkpoint), device=device, local_files_only=True)
    vectors: NDArray[np.float32] = model.encode(texts, batch_size=1, show_progress_bar=False)
    return vectors
