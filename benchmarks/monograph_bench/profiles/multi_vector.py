"""Multi-vector encoders: a vector for each token of a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from monograph.tasks.multi_vector import MULTI_VECTOR
from monograph_bench.evaluation.multi_vector_retrieval import load_torch_multi_vector, multi_vector_retrieval_scores
from monograph_bench.peers.catalog import Peer
from monograph_bench.peers.environments import PeerError
from monograph_bench.peers.exported_models import ExportSource
from monograph_bench.profiles.base import Call, Evaluations, TextProfile


class MultiVectorProfile(TextProfile):
    """How multi-vector encoders are measured and evaluated: with documents, of which there are many."""

    task = MULTI_VECTOR
    models = "multi-vector encoders"
    result = "matrix of token vectors"
    bundle_call = Call("encode", {"prompt": "", "task": "document"})
    library_class = "MultiVectorEncoder"
    library_call = Call("encode", {"prompt": "", "task": "document"})
    exported_part = "the transformer"
    evaluations: ClassVar[Evaluations] = {"retrieval": multi_vector_retrieval_scores}

    def export_source(self, checkpoint: Path, peer: Peer) -> ExportSource:
        """Refuse: the peers whose models are exported load no multi-vector encoder."""
        raise PeerError(f"{peer.name} is not measured with multi-vector encoders such as {checkpoint}")

    def load_in_torch(self, folder: Path) -> Any:
        """Load a MultiVectorEncoder."""
        return load_torch_multi_vector(folder)


PROFILE = MultiVectorProfile()
