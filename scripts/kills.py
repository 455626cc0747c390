"""Kill commands at random moments, and check after each kill what is left: `scripts/kills --help`.

Exports, unpacks, packs, prepares and embeds a tiny checkpoint, of which each run is first measured and then killed
with SIGKILL at moments spread over its length and a little more. After every kill the target is absent or complete,
what is in the cache is proven, and no more than one thing is left over; after the last, a run succeeds and leaves
nothing. Runs are forked from a process that has imported everything and run none of it, so that the kills hit the work
and not the imports.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np

from monograph import Embedder, MonographError, prepare
from monograph.bundle import open_bundle
from monograph.bundle.archive import pack_bundle, unpack_bundle
from monograph.commands.main import main as monograph
from monograph.engines.packed_weights import find_packed_graph

# Long enough for several windows: every one is a moment at which embed writes.
LINES = 9000


@dataclass(frozen=True)
class Inputs:
    """What the commands work on, and the vectors that are right for ``texts``: float32 [n, d]."""

    checkpoint: Path
    bundle: Path
    archive: Path
    texts: Path
    vectors: np.ndarray[Any, Any]


class Command(ABC):
    """A command that writes into ``place``, and what must hold there after a kill."""

    name: str

    def __init__(self, inputs: Inputs, place: Path) -> None:
        self.inputs, self.place = inputs, place

    @abstractmethod
    def run(self) -> object:
        """Do it once, in a process of its own."""

    @abstractmethod
    def check(self) -> bool:
        """Return whether the target is there; raise if it is there and not complete."""

    def clear(self) -> None:
        """Remove a complete target, so that the next run writes it again."""
        for path in self.place.iterdir():
            if not path.name.startswith("."):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def left_over(self) -> list[str]:
        """Return what is neither the target nor of use to a later run."""
        return sorted(str(path.relative_to(self.place)) for path in self.place.rglob(".*.partial-*"))


class Export(Command):
    """A checkpoint becomes a bundle."""

    name = "export"

    def run(self) -> object:
        """Run it."""
        from monograph_export import export

        return export(self.inputs.checkpoint, self.place / "bundle")

    def check(self) -> bool:
        """Check the target."""
        target = self.place / "bundle"
        return target.exists() and bool(open_bundle(target, check="full").manifest.quality.verifications)


class Unpack(Command):
    """An archive becomes a bundle."""

    name = "unpack"

    def run(self) -> object:
        """Run it."""
        return unpack_bundle(self.inputs.archive, self.place / "bundle")

    def check(self) -> bool:
        """Check the target."""
        target = self.place / "bundle"
        return target.exists() and bool(open_bundle(target, check="full"))


class Pack(Command):
    """A bundle becomes an archive."""

    name = "pack"

    def run(self) -> object:
        """Run it."""
        return pack_bundle(self.inputs.bundle, self.place / "bundle.tar")

    def check(self) -> bool:
        """Check the target."""
        target = self.place / "bundle.tar"
        if target.exists() and target.read_bytes() != self.inputs.archive.read_bytes():
            raise AssertionError(f"{target} is not the archive")
        return target.exists()


class Prepare(Command):
    """Packed weights, in a cache that is all of ``place``."""

    name = "prepare"

    def run(self) -> object:
        """Run it."""
        return prepare(self.inputs.bundle, "cpu", cache_dir=self.place)

    def check(self) -> bool:
        """Check the target."""
        # As a start looks for them.
        used = [find_packed_graph(folder) for folder in self.place.glob("packed/*")]
        if None in used:
            raise AssertionError("packed weights are half there")
        with Embedder(self.inputs.bundle, "cpu", cache_dir=self.place) as model:
            lines = self.inputs.texts.read_text("utf-8").splitlines()[:50]
            np.testing.assert_allclose(model.encode(lines), self.inputs.vectors[:50], atol=1e-5)
        return bool(used)


class Embed(Command):
    """A file of vectors, which each run continues where the one before was killed."""

    name = "embed"

    def run(self) -> object:
        """Run it."""
        output = self.place / "out.npy"
        words = ["embed", str(self.inputs.bundle), str(self.inputs.texts), "-o", str(output), "--device", "cpu"]
        if monograph([*words, "--resume", "--quiet"]):
            raise MonographError("embed failed")
        return output

    def check(self) -> bool:
        """Check the target."""
        target = self.place / "out.npy"
        if target.exists():
            np.testing.assert_allclose(np.load(target), self.inputs.vectors, atol=1e-5)
        return target.exists()

    def left_over(self) -> list[str]:
        """Return the names."""
        # A partial file with its progress is what the next run continues.
        known = {"out.npy", "out.npy.partial", "out.npy.progress"}
        return [*super().left_over(), *sorted({path.name for path in self.place.iterdir()} - known)]

    def clear(self) -> None:
        """Remove the output, and leave what is to be continued."""
        if (self.place / "out.npy").exists():
            super().clear()


COMMANDS: Sequence[type[Command]] = (Export, Unpack, Pack, Prepare, Embed)


def make_inputs(folder: Path) -> Inputs:
    """Make a tiny checkpoint, its bundle and archive, and texts with their vectors."""
    from monograph_export import export
    from support import checkpoints

    # As wide as packed weights need it to be written.
    config = checkpoints.TINY_BERT | {"max_position_embeddings": 256, "hidden_size": 64, "intermediate_size": 256}
    checkpoint = checkpoints.tiny(folder, config=config, max_length=60)
    bundle = export(checkpoint, folder / "bundle").path
    texts = folder / "texts.txt"
    lines = [f"{number} grey geese flew over the harbour" for number in range(LINES)]
    texts.write_text("\n".join(lines) + "\n", "utf-8")
    with Embedder(bundle, "cpu", cache_dir=folder / "cache") as model:
        vectors = np.asarray(model.encode(lines))
    return Inputs(checkpoint, bundle, pack_bundle(bundle, folder / "bundle.tar"), texts, vectors)


def kill_often(
    command: Command, kills: int, context: ForkServerContext, random_numbers: random.Random
) -> dict[str, Any]:
    """Kill a command ``kills`` times, check each time, and return counts.

    Raises:
        AssertionError: something is half there, or too much is left over.

    """
    counts = {"runs": 0, "kills": 0, "complete": 0, "left over": 0, "most left over at a time": 0}
    lengths = []
    for _ in range(2):
        lengths.append(_run(command, context, after=None)[0])
        _require(command.check(), f"{command.name} wrote nothing")
        _require(not command.left_over(), f"{command.name} left {command.left_over()}")
        command.clear()
    # Of the second: the first fills caches.
    length = lengths[-1]
    # Parts of a run, spread evenly, in random order.
    moments = [(number + random_numbers.random()) / kills for number in range(kills)]
    random_numbers.shuffle(moments)
    while moments:
        from_nothing = not any(command.place.iterdir())
        took, killed = _run(command, context, after=moments[-1] * length)
        there, left = command.check(), command.left_over()
        counts["runs"] += 1
        counts["kills"] += killed
        counts["complete"] += there
        counts["left over"] += bool(left)
        counts["most left over at a time"] = max(counts["most left over at a time"], len(left))
        _require(len(left) <= 1, f"{command.name} left {left} after a kill at {took:.3f} of {length:.3f} s")
        if there:
            command.clear()
        if killed:
            moments.pop()
        elif from_nothing:
            # The machine has less other work than before.
            length = took
    _run(command, context, after=None)
    _require(command.check(), f"{command.name} wrote nothing after the kills")
    _require(not command.left_over(), f"{command.name} left {command.left_over()}")
    return {"seconds": round(length, 3), **counts}


def _require(condition: object, problem: str) -> None:
    if not condition:
        raise AssertionError(problem)


def _run(command: Command, context: ForkServerContext, after: float | None) -> tuple[float, bool]:
    """Run a command in a new process, to its end or until it is killed; return the seconds, and whether it was."""
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_in_child, args=(command, writer))
    process.start()
    writer.close()
    # It says when it begins: to start a process takes as long as some commands.
    reader.recv()
    begin = time.monotonic()
    process.join(after)
    killed = process.exitcode is None
    if killed:
        process.kill()
        process.join()
    _require(killed or process.exitcode == 0, f"{command.name} failed with {process.exitcode}")
    return time.monotonic() - begin, killed


def _in_child(command: Command, begun: Any) -> None:
    begun.send(True)
    with contextlib.redirect_stdout(open(os.devnull, "w")):  # noqa: PTH123 - for the life of the process
        command.run()


def forkserver() -> ForkServerContext:
    """Return where processes are forked from one that has imported torch and this module, and run nothing."""
    import multiprocessing

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["monograph_export.torch_model", "onnxruntime", "kills"])
    return context


def main(report: Callable[[str], object] = print) -> int:
    """Run what the command line says and print a line of JSON for each command."""
    parser = argparse.ArgumentParser(prog="scripts/kills", description=(__doc__ or "").splitlines()[0])
    names = [command.name for command in COMMANDS]
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--kills", type=int, default=100, help="of each command; default: 100")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    arguments = parser.parse_args()
    if unknown := set(arguments.commands) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: there is no such command, only {', '.join(names)}")
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder))
        for kind in COMMANDS:
            if arguments.commands and kind.name not in arguments.commands:
                continue
            place = Path(folder) / f"place-{kind.name}"
            place.mkdir()
            counts = kill_often(kind(inputs, place), arguments.kills, forkserver(), random.Random(arguments.seed))  # noqa: S311
            report(json.dumps({"command": kind.name, **counts}))
            sys.stdout.flush()
    return 0
