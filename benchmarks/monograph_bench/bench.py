"""What `monograph bench` does: plan a run, measure, report; or compare two runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monograph.bundle import Bundle
from monograph.errors import InputError
from monograph.progress import SILENT, Progress
from monograph_bench.evaluation.sts import StsPairs, read_sts
from monograph_bench.machine import cpus_for
from monograph_bench.measurement.session import Plan, run_session
from monograph_bench.peers.systems import peer_systems
from monograph_bench.profiles import TaskProfile
from monograph_bench.profiles.base import Selection
from monograph_bench.report.comparison import compare, uncompared
from monograph_bench.report.page import write_page
from monograph_bench.report.table import lines_of
from monograph_bench.results import Settings, read_results
from monograph_bench.systems import PEER, System, Unavailable, bundle_systems, common_profile, open_bundles
from monograph_export.compression.options import LARGE_VOCABULARY


@dataclass(frozen=True)
class Request:
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
    sts: Path | None = None


def measure(
    request: Request, settings: Settings, output: Path | None, page: Path | None, progress: Progress = SILENT
) -> Iterator[str]:
    """Measure, write the results where that is requested, and yield the lines of the table.

    Each step is reported to ``progress``.

    Raises:
        MonographError: something cannot be measured at all; a system that fails is a row with its reason.

    """
    results = run_session(_plan(request, settings, progress), progress)
    # The rounds first: everything else can be made of them again.
    if output is not None:
        results.write(output)
    yield from lines_of(results)
    if page is not None:
        write_page(results, page)


def changes(old: Path, new: Path) -> list[str]:
    """Describe what became slower, or larger, from one saved run to another; report what only one of them has.

    Raises:
        InputError: a file is no result, or the two cannot be compared.

    """
    before, after = read_results(old), read_results(new)
    lines = [str(change) for change in compare(before, after)]
    for line in uncompared(before, after):
        _say(f"not compared: {line}")
    return lines


def _plan(request: Request, settings: Settings, progress: Progress) -> Plan:
    cpus = cpus_for(request.threads)
    bundles = open_bundles(request.bundles, progress)
    profile = common_profile(bundles)
    sts = None if request.sts is None else _read_sts(request.sts, profile)
    selection = Selection(request.mixes, request.texts, request.count, _language(bundles))
    workloads, calls = profile.make_workloads(selection)
    systems = bundle_systems(bundles, request.device, request.compute_dtype, len(cpus))
    systems |= _peer_systems(request, profile.task.name, len(cpus), progress)
    # Results are shared, and where this machine keeps its files is nobody's business.
    command = [Path(part).name if Path(part).is_absolute() else part for part in sys.argv]
    name = "" if request.sts is None else request.sts.name
    return Plan(systems, bundles, workloads, calls, cpus, settings, command, sts, name)


def _read_sts(file: Path, profile: TaskProfile) -> StsPairs:
    if "sts" not in profile.evaluations:
        raise InputError(f"--sts is for embedding models, and the bundles are {profile.models}")
    try:
        return read_sts(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def _peer_systems(request: Request, task: str, threads: int, progress: Progress) -> dict[str, System | Unavailable]:
    if request.checkpoint is None:
        return {}
    peers, reasons = peer_systems(request.peers, request.checkpoint, threads, task=task, progress=progress)
    return {peer.name: peer for peer in peers} | {name: Unavailable(PEER, why) for name, why in reasons.items()}


def _language(bundles: Mapping[str, Bundle]) -> str | None:
    """Return the language of the texts: None, which is all, for a multilingual model, known by its vocabulary."""
    large = any(bundle.manifest.tokenizer.vocabulary_size > LARGE_VOCABULARY for bundle in bundles.values())
    return None if large else "en"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
