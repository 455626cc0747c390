# ruff: noqa: S311 - what is chosen need not be secret
"""Run the committed bundles under load: each answer is right or one error, and none is missing.

The texts' right outputs are computed one by one on ONNX Runtime at the start. Then one process after another loads the
models, each with an environment and a device of its own, and works for a few seconds.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import faulthandler
import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from monograph import CrossEncoder, Embedder, MonographError, SparseEncoder, load
from support.environments import ALL, applied, is_refused, name_of

BUNDLES = Path(__file__).parents[1] / "tests" / "data"
# Not the int8 one: how it rounds depends on the shapes that a text is computed in.
NAMES = ("embedding", "rerank", "sparse")
DEVICES = ("cpu", "openvino")
THREADS = 64
ROUND_SECONDS = 10.0
# An answer that takes longer is counted as missing; a loaded machine needs seconds for some.
STUCK_SECONDS = 90
TOLERANCE = 1e-5
_WORDS = ("a", "boat", "lies", "in", "harbour", "and", "waits", "палуба", "船", "größer", "1984", "quiet", "engines")


class Deadline(Exception):  # noqa: N818 - as an application would name it
    """What an application raises in the middle of a call."""


class WrongAnswer(Exception):  # noqa: N818
    """An output that is not the right one."""


def texts_of(seed: int) -> list[str]:
    """Return 60 distinct texts of many lengths."""
    chosen = random.Random(seed)
    return [f"{n} " + " ".join(chosen.choices(_WORDS, k=chosen.choice((1, 3, 9, 30, 90)))) for n in range(60)]


def outputs_of(model: Any, texts: list[str], **options: Any) -> np.ndarray[Any, Any]:
    """Return the outputs of texts as a dense array, one row each."""
    if isinstance(model, CrossEncoder):
        return np.asarray(model.predict([(text, text[::-1]) for text in texts], **options)).reshape(len(texts), -1)
    outputs = model.encode(texts, **options)
    return outputs.toarray() if isinstance(model, SparseEncoder) else np.asarray(outputs)


def right_outputs(texts: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Compute the outputs that every answer is compared with."""
    right = {}
    for name in NAMES:
        with load(BUNDLES / name, "cpu", threads=1) as model:
            right[name] = outputs_of(model, texts, batch_size=1)
    return right


class Round:
    """The work of one process: its models, what it counted, and since when each thread waits for an answer."""

    def __init__(self, seed: int, device: str, seconds: float, threads: int, texts: list[str], right: Any) -> None:
        self.random = random.Random(seed)
        self.device, self.threads, self.texts, self.right = device, threads, texts, right
        self.end = time.monotonic() + seconds
        self.counts: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self.waiting: dict[int, float] = {}
        self.interruptible: set[int] = set()
        self.armed = False
        self.models = {name: self.open(name) for name in NAMES}
        for model in self.models.values():
            # Modules that a first call imports: Python's own import locks do not survive an exception of a handler.
            outputs_of(model, texts[:1])

    def open(self, name: str) -> Any:
        """Open a bundle on the round's device."""
        return load(BUNDLES / name, self.device, compute_dtype="float32", threads=2)

    def check(self, name: str, rows: list[int], outputs: np.ndarray[Any, Any]) -> None:
        """Raise WrongAnswer unless these are the outputs of some of the texts."""
        expected = self.right[name][rows]
        allowed = TOLERANCE * max(1.0, float(np.abs(self.right[name]).max()))
        if outputs.shape != expected.shape or not float(np.abs(outputs - expected).max(initial=0)) <= allowed:
            raise WrongAnswer(f"{name} on {self.device}: texts {rows}")
        self.counts["answers"] += 1

    def call(self, models: dict[str, Any], chosen: random.Random) -> None:
        """Make one call of a random kind and check its answer."""
        name = chosen.choice(list(models))
        rows = chosen.sample(range(len(self.texts)), chosen.choice((1, 1, 1, 2, 5, 40)))
        texts = [self.texts[row] for row in rows]
        options = {"batch_size": chosen.choice((1, 3))} if chosen.random() < 0.2 else {}
        model = models[name]
        if isinstance(model, Embedder) and chosen.random() < 0.3:
            blocks = []
            for block in model.encode_iter((text for text in texts), **options):
                blocks.append(block)
                if chosen.random() < 0.2:
                    break
            else:
                self.check(name, rows, np.concatenate(blocks))
            return
        self.check(name, rows, outputs_of(model, texts, **options))

    def work(self, seed: float) -> None:
        """Make calls until the round ends, with workers that are forked and models that are closed among them."""
        chosen = random.Random(seed)
        me = threading.get_ident()
        while time.monotonic() < self.end:
            self.waiting[me] = time.monotonic()
            try:
                kind = chosen.random()
                if kind < 0.005:
                    self.fork(seed)
                elif kind < 0.01:
                    self.close_in_use(chosen)
                else:
                    self.interruptible.add(me)
                    self.call(self.models, chosen)
            except Deadline:
                self.counts["interrupted in threads"] += 1
            except Exception:  # noqa: BLE001 - whatever it is, it is a failure
                self.failures.append(traceback.format_exc())
            finally:
                # Interrupts that come here end the thread's turn and nothing else.
                self.interruptible.discard(me)
        self.waiting.pop(me, None)

    def fork(self, seed: float) -> None:
        """Fork a worker: the inherited models refuse to run, and one that it opens is right."""
        worker = os.fork()
        if worker == 0:
            code = 9
            try:
                for number in (signal.SIGALRM, signal.SIGUSR1):
                    signal.signal(number, signal.SIG_DFL)
                # It ends a worker that hangs.
                signal.alarm(STUCK_SECONDS)
                code = self.in_worker(random.Random(seed))
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        self.counts["workers"] += 1
        if status:
            self.failures.append(f"a forked worker ended with {status}")

    def in_worker(self, chosen: random.Random) -> int:
        """Return 0 if everything in a forked worker is as it should be."""
        for model in self.models.values():
            try:
                outputs_of(model, self.texts[: chosen.choice((1, 2, 40))])
            except MonographError as error:
                if "before the process was forked" not in str(error):
                    raise
            else:
                return 3
        self.device = "cpu"
        own = {"embedding": self.open("embedding")}
        for _ in range(3):
            self.call(own, chosen)
        return 0

    def close_in_use(self, chosen: random.Random) -> None:
        """Close a model while other threads use it: they get right answers, then one error."""
        model = {"embedding": self.open("embedding")}
        errors: list[str] = []

        def use(seed: int) -> None:
            try:
                while True:
                    self.call(model, random.Random(seed))
            except MonographError as error:
                errors.append(str(error))

        users = [threading.Thread(target=use, args=(chosen.random(),), daemon=True) for _ in range(3)]
        for user in users:
            user.start()
        time.sleep(chosen.random() / 50)
        model["embedding"].close()
        for user in users:
            user.join(STUCK_SECONDS)
        self.counts["closed in use"] += 1
        if len(errors) != len(users) or any("was closed" not in error for error in errors):
            self.failures.append(f"after a model was closed, its users had {errors}")

    def on_alarm(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Raise in the middle of whatever the main thread does, once."""
        if self.armed:
            self.armed = False
            raise Deadline

    def on_user_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Make a call from a signal handler: it is answered, or refused inside another call."""
        try:
            self.check("embedding", [0], outputs_of(self.models["embedding"], self.texts[:1]))
            self.counts["answered in handlers"] += 1
        except MonographError as error:
            if "signal handler" not in str(error):
                raise
            self.counts["refused in handlers"] += 1

    def disturb(self) -> None:
        """Send signals to this process, and exceptions to its threads, until the round ends."""
        chosen = random.Random(self.random.random())
        main = threading.main_thread().ident
        while time.monotonic() < self.end:
            time.sleep(chosen.random() / 50)
            if main is not None and main in self.waiting:
                signal.pthread_kill(main, signal.SIGUSR1)
            for thread in list(self.interruptible)[:1]:
                exception = ctypes.py_object(Deadline)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)

    def with_deadline(self, chosen: random.Random) -> None:
        """Make a call on the main thread that a timer may end."""
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, chosen.random() / 40 + 1e-5)
            self.call(self.models, chosen)
            self.armed = False
        except Deadline:
            self.counts["deadlines"] += 1
        finally:
            self.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def watch(self) -> None:
        """End the process with the stacks of all threads where one waits too long."""
        while True:
            time.sleep(1)
            now = time.monotonic()
            if any(now - since > STUCK_SECONDS for since in list(self.waiting.values())):
                faulthandler.dump_traceback(all_threads=True)
                os._exit(1)

    def run(self) -> None:
        """Do all of it at once until the round ends."""
        signal.signal(signal.SIGALRM, self.on_alarm)
        signal.signal(signal.SIGUSR1, self.on_user_signal)
        threading.Thread(target=self.watch, daemon=True).start()
        threads = [
            threading.Thread(target=_never_raises(self.work), args=(self.random.random(),), daemon=True)
            for _ in range(self.threads - 1)
        ]
        for thread in (*threads, disturber := threading.Thread(target=self.disturb)):
            thread.start()
        chosen = random.Random(self.random.random())
        me = threading.get_ident()
        while time.monotonic() < self.end:
            self.waiting[me] = time.monotonic()
            try:
                self.with_deadline(chosen)
            except Exception:  # noqa: BLE001
                self.failures.append(traceback.format_exc())
        disturber.join()
        self.waiting.pop(me, None)
        for thread in threads:
            thread.join(STUCK_SECONDS)
            if thread.is_alive():
                faulthandler.dump_traceback(all_threads=True)
                os._exit(1)
        for model in self.models.values():
            model.close()


def _never_raises(work: Callable[[float], None]) -> Callable[[float], None]:
    """Start a thread's work again where an interrupt came between two calls."""

    def run(seed: float) -> None:
        while True:
            try:
                work(seed)
                break
            except Deadline:
                seed += 1

    return run


def run_round(folder: Path, seed: int, device: str, seconds: float, threads: int) -> int:
    """Run one round in this process and print its counts."""
    faulthandler.enable()
    # For what the watching thread does not notice: native code that holds the interpreter.
    faulthandler.dump_traceback_later(seconds + 3 * STUCK_SECONDS, exit=True)
    texts, right = pickle.loads((folder / "right").read_bytes())  # noqa: S301 - written below
    current = Round(seed, device, seconds, threads, texts, right)
    current.run()
    print(json.dumps({"counts": current.counts, "failures": current.failures[:5]}), flush=True)
    return 1 if current.failures else 0


def main() -> int:
    """Run rounds until the time is over, and print all counts as JSON."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=main.__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--round", nargs=4, metavar=("FOLDER", "SEED", "DEVICE", "SECONDS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.round:
        folder, seed, device, seconds = arguments.round
        return run_round(Path(folder), int(seed), device, float(seconds), arguments.threads)
    end = time.monotonic() + arguments.minutes * 60
    chosen = random.Random(arguments.seed)
    total: collections.Counter[str] = collections.Counter()
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = texts_of(arguments.seed)
        (folder / "right").write_bytes(pickle.dumps((texts, right_outputs(texts))))
        # The variable that is known to hang forked workers first, so that a short run has it.
        environments = [{"TOKENIZERS_PARALLELISM": "true"}, *chosen.sample(ALL, len(ALL))]
        for number, environment in enumerate(itertools.cycle(environments)):
            left = end - time.monotonic()
            if left <= 0:
                break
            device = DEVICES[(number + number // len(environments)) % len(DEVICES)]
            if is_refused(environment, device):
                device = "cpu"
            what = f"seed {arguments.seed} round {number}: {device}, {name_of(environment)}"
            words = [folder, chosen.randrange(2**31), device, min(left, ROUND_SECONDS)]
            command = [sys.executable, __file__, "0", "--threads", str(arguments.threads), "--round", *map(str, words)]
            base = os.environ | {"MONOGRAPH_CACHE": str(folder / "cache")}
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", env=applied(environment, base), check=False
            )
            total["rounds"] += 1
            lines = [line for line in done.stdout.splitlines() if line.startswith('{"counts"')]
            total.update(json.loads(lines[-1])["counts"] if lines else {})
            if done.returncode or not lines:
                failed.append(what)
                print(f"{what}\nexit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}", file=sys.stderr)
    print(json.dumps({"seed": arguments.seed, "failed": failed, **total}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
