"""What `monograph bench` does: plan a run, measure, report; or compare two runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monograph.bundle import Bundle
from monograph.bundle.manifest import RERANK
from monograph.errors import InputError
from monograph_bench.bundles import bundle_systems, open_bundles, task_of
from monograph_bench.machine import cpus_for
from monograph_bench.measurement.session import Plan, run_session
from monograph_bench.measurement.settings import Settings
from monograph_bench.pairs import file_pairs, make_pairs
from monograph_bench.peers import peer_systems
from monograph_bench.report.comparison import compare, uncompared
from monograph_bench.report.page import write_page
from monograph_bench.report.table import lines_of
from monograph_bench.results import read_results
from monograph_bench.systems import PEER, System, Unavailable
from monograph_bench.task_profiles import TASK_PROFILES
from monograph_bench.texts import Workload, file_workload, make_workload

# Texts, or pairs, of a workload: a round takes seconds, not minutes, on a small machine.
TEXTS = 1000
LONG_TEXTS = 200
_CALLED_TEXTS = 256
_CALLED_PAIRS = 1000
# Above it a model is multilingual, and so are the texts.
_LARGE_VOCABULARY = 100_000


@dataclass(frozen=True)
class Asked:
    """What is to be measured, as the command line says it; ``checkpoint`` is what the peers load."""

    bundles: Sequence[str]
    device: str
    compute_dtype: str
    threads: int | None
    mixes: Sequence[str]
    texts: Path | None
    count: int | None
    peers: Sequence[str]
    checkpoint: Path | None


def measure(asked: Asked, settings: Settings, output: Path | None, page: Path | None) -> Iterator[str]:
    """Measure, keep the results where they are asked for, and yield the lines of the table.

    Raises:
        MonographError: something cannot be measured at all; a system that fails is a row with its reason.

    """
    results = run_session(_plan(asked, settings))
    # The rounds first: everything else can be made of them again.
    if output is not None:
        results.write(output)
    yield from lines_of(results)
    if page is not None:
        write_page(results, page)


def changes(old: Path, new: Path) -> list[str]:
    """Return in words what became slower, or larger, from one kept run to another; say what only one of them has.

    Raises:
        InputError: a file is no result, or the two cannot be compared.

    """
    before, after = read_results(old), read_results(new)
    found = compare(before, after)
    for line in uncompared(before, after):
        _say(f"not compared: {line}")
    return [str(change) for change in found]


def _plan(asked: Asked, settings: Settings) -> Plan:
    cpus = cpus_for(asked.threads)
    bundles = open_bundles(asked.bundles)
    task = task_of(bundles)
    language = _language(bundles)
    workloads, calls = _pairs(asked, language) if task == RERANK else _texts(asked, language)
    systems = bundle_systems(bundles, asked.device, asked.compute_dtype, len(cpus))
    systems |= _peer_systems(asked, task, len(cpus))
    unit = TASK_PROFILES[task]
    settings = replace(settings, call_sizes=unit.call_sizes, calls=unit.calls_a_round)
    # Results are shared, and where this machine keeps its files is nobody's business.
    command = [Path(part).name if Path(part).is_absolute() else part for part in sys.argv]
    return Plan(systems, bundles, workloads, calls, cpus, settings, command)


def _peer_systems(asked: Asked, task: str, threads: int) -> dict[str, System | Unavailable]:
    if asked.checkpoint is None:
        return {}
    peers, reasons = peer_systems(asked.peers, asked.checkpoint, threads, task=task, report=_say)
    found: dict[str, System | Unavailable] = {peer.name: peer for peer in peers}
    return found | {name: Unavailable(PEER, reason) for name, reason in reasons.items()}


def _texts(asked: Asked, language: str | None) -> tuple[list[Workload], Workload]:
    """Return the workloads of texts, and the texts of calls."""
    mixes = asked.mixes or ([] if asked.texts else ["mixed"])
    found = [] if asked.texts is None else [file_workload(asked.texts, asked.count)]
    for mix in dict.fromkeys(mixes):
        found.append(make_workload(mix, asked.count or (LONG_TEXTS if mix == "long" else TEXTS), language))
    return found, Workload("calls", make_workload("short", _CALLED_TEXTS, language).texts)


def _pairs(asked: Asked, language: str | None) -> tuple[list[Workload], Workload]:
    """Return the workload of pairs, and the pairs of calls.

    Raises:
        InputError: mixes of lengths are asked for.

    """
    if asked.mixes:
        raise InputError("--mix is for models of texts: a reranker is measured with pairs, its own or --texts FILE")
    found = make_pairs(asked.count or TEXTS, language) if asked.texts is None else file_pairs(asked.texts, asked.count)
    return [found], Workload("calls", make_pairs(_CALLED_PAIRS, language).texts)


def _language(bundles: Mapping[str, Bundle]) -> str | None:
    """Return the language of the texts: None, which is all of them, for a multilingual model."""
    large = any(bundle.manifest.tokenizer.vocabulary_size > _LARGE_VOCABULARY for bundle in bundles.values())
    return None if large else "en"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
