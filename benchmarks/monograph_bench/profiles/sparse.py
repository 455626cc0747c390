"""Sparse encoders: a sparse vector over the vocabulary a text."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from monograph.tasks.sparse import SPARSE
from monograph_bench.evaluation.sparse_retrieval import load_torch_sparse, sparse_retrieval_scores
from monograph_bench.peers.catalog import Peer
from monograph_bench.peers.environments import PeerError
from monograph_bench.peers.exported_models import ExportSource
from monograph_bench.profiles.base import Call, Evaluations, TextProfile
from monograph_export.checkpoint.checkpoint import MODULES_FILE, read_checkpoint
from monograph_export.checkpoint.transformer import max_length_of, module_names, write_tokenizer

# The transformer is a class of its own in the spelling of sentence-transformers 5.
_MODULES = (["Transformer", "SpladePooling"], ["MLMTransformer", "SpladePooling"])


class SparseProfile(TextProfile):
    """How sparse encoders are measured and evaluated."""

    task = SPARSE
    models = "sparse encoders"
    bundle_call = Call("encode", {"prompt": ""})
    library_class = "SparseEncoder"
    # Its default is a sparse tensor, which its users get.
    library_call = Call("encode", {"prompt": ""})
    exported_part = "the masked language model as optimum exports it, torch for the pooling behind it"
    evaluations: ClassVar[Evaluations] = {"retrieval": sparse_retrieval_scores}

    def export_source(self, checkpoint: Path, peer: Peer) -> ExportSource:  # noqa: ARG002 - the same for every peer
        """Return the masked language model of a folder with the settings of SPLADE's pooling."""
        read = read_checkpoint(checkpoint)
        names = module_names(read)
        if names not in _MODULES or read.modules[0].folder != checkpoint:
            raise PeerError(
                f"{checkpoint} lists {', '.join(names) or 'no modules'}: peers load a sparse encoder that is a "
                "Transformer with SpladePooling"
            )
        transformer, pooling = read.modules
        write = partial(_write_settings, checkpoint, pooling.folder, max_length_of(transformer))
        return ExportSource(checkpoint, checkpoint, "fill-mask", write)

    def load_in_torch(self, folder: Path) -> Any:
        """Load a SparseEncoder."""
        return load_torch_sparse(folder)


def _write_settings(checkpoint: Path, pooling: Path, max_length: int, folder: Path) -> None:
    write_tokenizer(checkpoint, max_length, folder)
    # As they are: the peers' release reads what this one writes.
    shutil.copyfile(checkpoint / MODULES_FILE, folder / MODULES_FILE)
    copy = folder / pooling.relative_to(checkpoint)
    copy.mkdir(parents=True)
    shutil.copyfile(pooling / "config.json", copy / "config.json")


PROFILE = SparseProfile()
