"""What a corpus will take: hours, memory, disk and network, and dollars at a price, from measured tokens per second."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monograph.bulk.machines import Machine
from monograph.bulk.simulation import Cluster, simulate
from monograph.bundle import read_probes
from monograph.embedder import Embedder

# Bytes of UTF-8 text for each token, about those of English with MiniLM's vocabulary.
BYTES_PER_TOKEN = 4.0
_SECONDS = 5.0
# Texts that are measured together: fewer long ones, or a pass over them would take minutes.
_MIN_TEXTS, _MAX_TEXTS, _TOKENS = 8, 1024, 1 << 16
# A model without a maximum length has the rate of longer texts at this one.
_LONGEST = 1 << 14
_SEEDS = range(5)
_HOUR = 3600.0
# Beyond, the tail that slow nodes leave is short beside the run, and the simulation takes long.
_MAX_SIMULATED_TABLES = 200_000
# Assumed: packed weights take about twice the space of the bundle's.
PACKED_SIZE = 2
_GIB = 1 << 30


@dataclass(frozen=True)
class Rate:
    """What a model does with texts of a mean length on one core: tokens per second, and bytes of memory.

    ``process_bytes`` are those that each process has for itself, ``shared_bytes`` the weights that all share.
    """

    tokens_per_second: float
    process_bytes: int
    shared_bytes: int
    source: str


@dataclass(frozen=True)
class Corpus:
    """Texts: their number, mean tokens, bytes of a text, and bytes of a vector with what is carried beside it.

    ``mean_tokens`` are those that are computed: at most the model's maximum length.
    """

    texts: float
    mean_tokens: float
    text_bytes: float
    vector_bytes: float


@dataclass(frozen=True)
class Disturbances:
    """How far nodes are from equal and lasting; see ``Cluster``. ``table_seconds`` is how long a table takes a core."""

    table_seconds: float = 600.0
    table_spread: float = 0.1
    node_spread: float = 0.05
    losses_per_node_hour: float = 0.002
    replacement_seconds: float = 300.0


@dataclass(frozen=True)
class Estimate:
    """What a corpus takes on ``nodes`` machines of one kind.

    ``hours`` are those of an undisturbed run; ``likely_hours`` and ``worst_hours`` the median and the worst of
    simulated runs with slow and lost nodes, in which ``lost_share`` of the work was done again; these three are None
    where the run has too many tables to simulate. Dollars are None without a price. Memory is that of a machine,
    ``read_mb_per_second`` and ``written_mb_per_second`` are those of all.
    """

    machine: Machine
    nodes: int
    hours: float
    likely_hours: float | None
    worst_hours: float | None
    lost_share: float | None
    dollars: float | None
    dollars_per_million_texts: float | None
    memory_gib: float
    input_gib: float
    output_gib: float
    read_mb_per_second: float
    written_mb_per_second: float


def measure(model: Embedder, mean_tokens: float) -> Rate:
    """Measure a model on texts of a mean length, for some seconds on all of its threads.

    The texts are those that the bundle is verified with, put together and cut to lengths that vary by half. Beyond the
    model's maximum length nothing is computed: a larger mean is measured as that.

    Raises:
        MonographError: the engine failed, or memory is not enough.

    """
    texts = _texts_of_length(model, min(mean_tokens, model.max_length or _LONGEST))
    tokens = int(model._open.routes.main.tokenize(texts).lengths.sum())
    model.encode(texts[:64])
    begin, done = time.monotonic(), 0
    while (seconds := time.monotonic() - begin) < _SECONDS:
        model.encode(texts)
        done += tokens
    bundle = model._open.bundle
    weights = sum(bundle.weights_bytes(graph) for graph in bundle.manifest.graphs)
    where = f"measured here on {model.threads} thread{'' if model.threads == 1 else 's'} of {model.engine}"
    return Rate(done / seconds / model.threads, _anonymous_bytes(), weights, where)


def estimate(
    corpus: Corpus, rate: Rate, machine: Machine, nodes: int, disturbances: Disturbances = Disturbances()
) -> Estimate:
    """Return what a corpus takes on some machines, whose cores are as fast as that of ``rate``."""
    core_seconds = corpus.texts * corpus.mean_tokens / rate.tokens_per_second
    seconds = core_seconds / (machine.cores * nodes)
    workers = machine.cores * nodes
    tables = max(workers, round(core_seconds / disturbances.table_seconds))
    cluster = Cluster(
        nodes,
        machine.cores,
        tables,
        core_seconds / tables,
        disturbances.table_spread,
        disturbances.node_spread,
        disturbances.losses_per_node_hour,
        disturbances.replacement_seconds,
    )
    runs = [simulate(cluster, seed) for seed in _SEEDS] if tables <= _MAX_SIMULATED_TABLES else []
    times = sorted(run.seconds for run in runs)
    likely = times[len(times) // 2] if times else seconds
    price = machine.dollars_per_hour
    dollars = None if price is None else likely / _HOUR * price * nodes
    read, written = corpus.texts * corpus.text_bytes, corpus.texts * corpus.vector_bytes
    return Estimate(
        machine=machine,
        nodes=nodes,
        hours=seconds / _HOUR,
        likely_hours=likely / _HOUR if runs else None,
        worst_hours=times[-1] / _HOUR if runs else None,
        lost_share=float(np.mean([run.lost_share for run in runs])) if runs else None,
        dollars=dollars,
        dollars_per_million_texts=None if dollars is None else dollars / corpus.texts * 1e6,
        memory_gib=(machine.cores * rate.process_bytes + PACKED_SIZE * rate.shared_bytes) / _GIB,
        input_gib=read / _GIB,
        output_gib=written / _GIB,
        read_mb_per_second=read / likely / 1e6,
        written_mb_per_second=written / likely / 1e6,
    )


def _texts_of_length(model: Embedder, mean_tokens: float) -> list[str]:
    """Return texts whose lengths are between half and one and a half times a mean, in tokens."""
    pipeline = model._open.routes.main
    pieces = [text for text in read_probes(model._open.bundle.path)[0].single_texts if text.strip()]
    joined = " ".join(pieces)
    characters_per_token = len(joined) / max(1, int(pipeline.tokenize(pieces).lengths.sum()))
    random = np.random.default_rng(0)
    count = max(_MIN_TEXTS, min(_MAX_TEXTS, round(_TOKENS / mean_tokens)))
    texts = []
    for share in random.uniform(0.5, 1.5, count):
        length = max(1, round(share * mean_tokens * characters_per_token))
        start = int(random.integers(len(joined)))
        texts.append((joined[start:] + " " + joined * (1 + length // len(joined)))[:length])
    # Pieces are of many languages, and a text is of one: the estimate is corrected by what it gave.
    actual = float(pipeline.tokenize(texts).lengths.mean())
    return [text[: max(1, round(len(text) * mean_tokens / actual))] for text in texts]


def _anonymous_bytes() -> int:
    """Return this process's own memory, 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
