"""What a task's profile has: how its models are called, measured, compared with the reference, and evaluated."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from monograph.inputs import Input
from monograph.tasks import Task
from monograph_bench.measurement.reference import COSINE, Comparison
from monograph_bench.peers.catalog import Peer
from monograph_bench.peers.exported_models import ExportSource
from monograph_bench.texts import Workload, file_workload, make_workload

# Inputs of a workload: a round takes seconds, not minutes, on a small machine.
DEFAULT_COUNT = 1000
_LONG_TEXTS = 200
_CALLED_TEXTS = 256

Evaluations = Mapping[str, Callable[[Any, Any], dict[str, float]]]


@dataclass(frozen=True)
class Call:
    """A method of a library's class, and the arguments that make all systems compute alike.

    No system adds a prompt. ``arguments`` are JSON values: the worker's adapter passes them on.
    """

    method: str
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class Selection:
    """The inputs that the command line selects: length mixes, a file, and how many of each, None for the default.

    ``language`` is that of the project's own sentences, None for all.
    """

    mixes: Sequence[str]
    file: Path | None
    count: int | None
    language: str | None


class TaskProfile(abc.ABC):
    """A task: everything that the benchmark and the evaluation do otherwise for it.

    ``models`` and ``result`` are nouns of reports. ``call_sizes`` are the inputs of a single call; tables with room for
    one show the first, named ``call`` there. ``calls`` is a title, with "{size}" for the number and "{s}" for the
    plural. ``call_is_one_batch`` says that a call is one batch, not cut as a pass is. ``bundle_call`` is that of a
    bundle, ``library_call`` that of a ``library_class`` of sentence-transformers, ``exported_part`` the part of its
    model that another engine runs. ``evaluations`` are by the option of `monograph eval` that names their data; each
    takes an open bundle, or what ``load_in_torch`` returns, and a data set.
    """

    task: ClassVar[Task[Any]]
    models: ClassVar[str]
    result: ClassVar[str]
    call_sizes: ClassVar[tuple[int, ...]]
    call_is_one_batch: ClassVar[bool]
    calls_per_round: ClassVar[int]
    call: ClassVar[str]
    calls: ClassVar[str]
    comparison: ClassVar[Comparison]
    first_input: ClassVar[Input]
    bundle_call: ClassVar[Call]
    library_class: ClassVar[str]
    library_call: ClassVar[Call]
    exported_part: ClassVar[str]
    evaluations: ClassVar[Evaluations]

    @property
    def class_name(self) -> str:
        """The name of our class."""
        return self.task.model.partition(":")[2]

    @property
    def bundle_options(self) -> dict[str, object]:
        """Options of the adapter for bundles."""
        return {"call": asdict(self.bundle_call) | {"first_input": self.first_input}}

    @property
    def library_options(self) -> dict[str, object]:
        """Options of the adapter for sentence-transformers."""
        return {
            "class_name": self.library_class,
            "call": asdict(self.library_call) | {"first_input": self.first_input},
        }

    @abc.abstractmethod
    def make_workloads(self, selection: Selection) -> tuple[list[Workload], Workload]:
        """Return the workloads of passes, and the inputs of single calls.

        Raises:
            MonographError: the selection is not for this task, or its file cannot be read.

        """

    @abc.abstractmethod
    def export_source(self, checkpoint: Path, peer: Peer) -> ExportSource:
        """Return what a peer's export of a checkpoint folder is made of.

        Raises:
            ExportError: the checkpoint is malformed.
            PeerError: it is of another task, or the peer does not compute all that it has.

        """

    @abc.abstractmethod
    def load_in_torch(self, folder: Path) -> Any:
        """Load a checkpoint folder by sentence-transformers, on the CPU at float32."""


class TextProfile(TaskProfile):
    """A task whose models embed texts."""

    result = "vector"
    call_sizes = (1, 8)
    call_is_one_batch = True
    calls_per_round = 200
    call = "one short text"
    calls = "calls of {size} short text{s}"
    comparison = COSINE
    first_input = "a first text"

    def make_workloads(self, selection: Selection) -> tuple[list[Workload], Workload]:
        """Return a workload a mix, behind that of the file, and short texts for single calls."""
        workloads = [] if selection.file is None else [file_workload(selection.file, selection.count)]
        for mix in dict.fromkeys(selection.mixes or ([] if workloads else ["mixed"])):
            count = selection.count or (_LONG_TEXTS if mix == "long" else DEFAULT_COUNT)
            workloads.append(make_workload(mix, count, selection.language))
        return workloads, Workload("calls", make_workload("short", _CALLED_TEXTS, selection.language).texts)
