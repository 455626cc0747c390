"""Rerankers: a score a pair of query and passage."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from monograph.errors import InputError
from monograph.tasks.rerank import RERANK
from monograph_bench.evaluation.parallel_texts import read_parallel
from monograph_bench.evaluation.reranking import rerank_scores
from monograph_bench.measurement.reference import SCORE_DIFFERENCE
from monograph_bench.peers.catalog import Peer
from monograph_bench.peers.environments import PeerError
from monograph_bench.peers.exported_models import ExportSource
from monograph_bench.profiles.base import DEFAULT_COUNT, Call, Evaluations, Selection, TaskProfile
from monograph_bench.texts import Workload, texts_of_mix
from monograph_export.checkpoint.checkpoint import read_checkpoint
from monograph_export.checkpoint.transformer import max_length_of, module_names, transformer_of, write_tokenizer
from monograph_export.tasks.rerank import RERANK_EXPORT

# Passages that are reranked for a query: what a first search usually hands on.
PASSAGES = 100
_CALLED_PAIRS = 1000
_OWN_PAIRS = "rerank"


class RerankProfile(TaskProfile):
    """How rerankers are measured and evaluated; all systems give logits, whatever activation each would use."""

    task = RERANK
    models = "rerankers"
    result = "score"
    call_sizes = (PASSAGES,)
    call_is_one_batch = False
    # Each takes as long as a hundred of a text, or more.
    calls_per_round = 10
    call = f"a query with {PASSAGES} passages"
    calls = "calls of {size} pairs, a query with its passages"
    comparison = SCORE_DIFFERENCE
    first_input = ("a first question", "a first text")
    bundle_call = Call("predict", {"prompt": "", "activation_fn": "Identity"})
    library_class = "CrossEncoder"
    library_call = Call("predict", {"prompt": "", "activation_fn": "Identity", "convert_to_numpy": True})
    exported_part = "the classifier as optimum exports it; it sorts by length itself"
    evaluations: ClassVar[Evaluations] = {"rerank": rerank_scores}

    def make_workloads(self, selection: Selection) -> tuple[list[Workload], Workload]:
        """Return one workload of pairs, and pairs for single calls."""
        if selection.mixes:
            raise InputError("--mix is for models of texts: a reranker is measured with pairs, its own or --texts FILE")
        count, language = selection.count, selection.language
        if selection.file is None:
            workload = make_pairs(count or DEFAULT_COUNT, language)
        else:
            workload = file_pairs(selection.file, count)
        return [workload], Workload("calls", make_pairs(_CALLED_PAIRS, language).texts)

    def export_source(self, checkpoint: Path, peer: Peer) -> ExportSource:  # noqa: ARG002 - the same for every peer
        """Return the classifier of a folder, in the old spelling of its files or the new one.

        The export has no modules.json: without one every release of sentence-transformers loads a classifier.
        """
        read = read_checkpoint(checkpoint)
        names = module_names(read)
        if names not in ([], ["Transformer"]):
            raise PeerError(f"{checkpoint} lists {', '.join(names)}: peers load a cross-encoder that is a Transformer")
        transformer = transformer_of(read)
        write = partial(write_tokenizer, transformer.folder, max_length_of(transformer))
        return ExportSource(checkpoint, transformer.folder, "text-classification", write)

    def load_in_torch(self, folder: Path) -> Any:
        """Load a CrossEncoder."""
        return RERANK_EXPORT.load(read_checkpoint(folder)).whole


def make_pairs(count: int, language: str | None) -> Workload:
    """Return distinct pairs of a query and a passage, 100 passages a query; the same at every call.

    The queries are texts of the mix "short", the passages of "mixed", in one language or, with None, in many.
    """
    queries = texts_of_mix("short", -(-count // PASSAGES), language)
    passages = texts_of_mix("mixed", count, language)
    return Workload(_OWN_PAIRS, tuple((queries[i // PASSAGES], passage) for i, passage in enumerate(passages)))


def file_pairs(file: Path, limit: int | None) -> Workload:
    """Return the distinct pairs of a user's file, at most ``limit``: a tab between query and passage.

    Raises:
        InputError: the file cannot be read or has another layout, with its line; or it has the name of the own pairs.

    """
    if file.name == _OWN_PAIRS:
        raise InputError(
            f"{file} is named as the pairs of {_OWN_PAIRS}: the report could not tell them apart, rename it"
        )
    try:
        parallel = read_parallel(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    pairs = dict.fromkeys(zip(parallel.source, parallel.target, strict=True))
    return Workload(file.name, tuple(pairs)[:limit])


PROFILE = RerankProfile()
