"""What was measured, how often, and the file it is saved in: docs/how-to/benchmark.md describes the JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monograph.atomic import atomic_file
from monograph.errors import InputError
from monograph.tasks.embedding import EMBEDDING

# 2 has the run's task, and scores; a run of version 1 is one of embedding models.
SCHEMA_VERSION = 2
_READ_VERSIONS = (1, 2)


@dataclass(frozen=True)
class Settings:
    """How often each thing is measured; times in seconds.

    ``calls`` are those of each round, None for as many as the task's profile says; ``trial_texts`` are what batch sizes
    are tried with.
    """

    rounds: int = 5
    starts: int = 3
    calls: int | None = None
    trial_texts: int = 256
    timeout: int = 600


@dataclass
class Start:
    """A start: seconds from that of a process to its first vector, and the machine speed's around it."""

    seconds: float
    machine_speed_seconds: float


@dataclass
class Round:
    """One pass over the texts of a workload, in seconds: wall-clock, CPU time, and the machine speed's around it."""

    seconds: float
    cpu_seconds: float
    machine_speed_seconds: float


@dataclass
class Calls:
    """The calls of a round one after the other: seconds of each, and the machine speed's around them."""

    seconds: list[float]
    machine_speed_seconds: float


@dataclass
class SystemResult:
    """What was measured of one system; ``failure`` says why there is nothing, or nothing more.

    ``usage`` describes how it is called, ``described`` is what it reports: versions, device, type, threads.
    ``batch_sizes`` and ``rounds`` are by workload, ``latencies`` by texts or pairs a call; ``memory`` in bytes;
    ``cosine`` of vectors to the reference (mean, worst), or ``scores``, how those of pairs agree with it (spearman,
    mean_difference, worst_difference: these as parts of the spread of the reference's); ``sts`` Spearman's correlation
    of cosines with the gold scores, in points of 100, None where it was not measured; ``padding`` the share of padded
    tokens and ``roofline`` that of the machine's own matrix rate, by workload. ``weight_bytes`` are those of the
    weights that each call reads, None where they are not known, and ``bandwidth`` their rate over the median call as a
    share of the machine's memory bandwidth, by texts a call.
    """

    name: str
    kind: str
    usage: str = ""
    described: dict[str, str] = field(default_factory=dict)
    batch_sizes: dict[str, int | None] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    latencies: dict[str, list[Calls]] = field(default_factory=dict)
    memory: dict[str, int | None] = field(default_factory=dict)
    cosine: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    sts: float | None = None
    padding: dict[str, float] = field(default_factory=dict)
    roofline: dict[str, float] = field(default_factory=dict)
    weight_bytes: int | None = None
    bandwidth: dict[str, float] = field(default_factory=dict)
    failure: str = ""


@dataclass
class WorkloadFacts:
    """A workload: its texts or pairs, and their tokens as the first bundle's tokenizer counts them."""

    texts: int
    tokens: int
    longest: int


@dataclass
class Results:
    """All of a run, of bundles of one ``task``.

    ``rates`` are the machine's own of matrix products, FLOP/s by type; ``memory_bandwidth`` is that of reading memory,
    bytes/s, None where it was not measured; ``sts`` describes the pairs of sentences, "" for none.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    workloads: dict[str, WorkloadFacts]
    rates: dict[str, float]
    reference: str
    not_timed: list[str]
    systems: list[SystemResult]
    task: str = EMBEDDING.name
    sts: str = ""
    memory_bandwidth: float | None = None
    schema_version: int = SCHEMA_VERSION

    def write(self, path: Path) -> None:
        """Write the results as JSON."""
        text = json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1, allow_nan=False)
        with atomic_file(path) as file:
            file.write(f"{text}\n".encode())


def read_results(path: Path) -> Results:
    """Read what ``Results.write`` wrote.

    Raises:
        InputError: the file cannot be read, or is no result of this schema.

    """
    try:
        values = json.loads(path.read_text("utf-8"))
        version = values["schema_version"]
        if version not in _READ_VERSIONS:
            known = " and ".join(map(str, _READ_VERSIONS))
            raise InputError(f"{path} has schema_version {version}, this release reads {known}")
        values["workloads"] = {name: WorkloadFacts(**facts) for name, facts in values["workloads"].items()}
        values["systems"] = [_system(system) for system in values["systems"]]
        return Results(**(values | {"schema_version": SCHEMA_VERSION}))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no result of monograph bench: {error}") from error


def _system(values: dict[str, Any]) -> SystemResult:
    starts = [Start(**one) for one in values["starts"]]
    rounds = {name: [Round(**one) for one in rounds] for name, rounds in values["rounds"].items()}
    latencies = {size: [Calls(**one) for one in rounds] for size, rounds in values["latencies"].items()}
    return SystemResult(**(values | {"starts": starts, "rounds": rounds, "latencies": latencies}))
