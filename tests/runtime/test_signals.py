"""Calls that signal handlers and finalizers make or end inside other calls."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import monograph
from monograph import Embedder, MonographError

DEVICES = ("cpu", "openvino")
SECONDS = 120
TEXTS = ["A boat.", "", "A longer text, which is about boats and about the harbour in which they lie. " * 3, "палуба"]


@pytest.fixture(params=DEVICES)
def model(tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Embedder]:
    with Embedder(tiny_bundle, request.param) as opened:
        yield opened


SIGNALS = """
import os, signal, sys, threading, time
import numpy as np
from monograph import Embedder, MonographError
model = Embedder(sys.argv[1], sys.argv[2], threads=2)
texts = ["A boat.", "Two boats " * 30]
right = model.encode(texts)
counts = dict.fromkeys(("answered", "refused", "deadlines", "others"), 0)
class Deadline(Exception):
    pass
def handle(number, frame):
    try:
        assert np.abs(model.encode(texts) - right).max() <= 3e-2
        counts["answered"] += 1
    except MonographError as error:
        assert "signal handler" in str(error)
        counts["refused"] += 1
    if armed and number == signal.SIGALRM:
        raise Deadline
def work():
    while time.monotonic() < end:
        assert np.abs(model.encode(texts) - right).max() <= 3e-2
        counts["others"] += 1
signal.signal(signal.SIGALRM, handle)
signal.signal(signal.SIGUSR1, handle)
armed, end = False, time.monotonic() + 3
threads = [threading.Thread(target=work) for _ in range(3)]
def disturb():
    while time.monotonic() < end:
        time.sleep(0.003)
        os.kill(os.getpid(), signal.SIGUSR1)
for thread in (*threads, disturber := threading.Thread(target=disturb)):
    thread.start()
delay = 0.0001
while time.monotonic() < end:
    delay = delay % 0.004 + 0.00007
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, delay)
        assert np.abs(model.encode(texts) - right).max() <= 3e-2
        armed = False
    except Deadline:
        armed = False
        counts["deadlines"] += 1
disturber.join()
for thread in threads:
    thread.join(30)
    assert not thread.is_alive()
assert (np.abs(model.encode(texts) - right) <= 3e-2).all()
print(*counts.values(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("device", DEVICES)
def test_signal_handlers_that_call_or_raise_keep_nobody_waiting(tiny_bundle: Path, device: str) -> None:
    command = [sys.executable, "-c", SIGNALS, str(tiny_bundle), device]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    _, refused, deadlines, others = map(int, done.stdout.split())
    assert refused
    assert deadlines
    assert others


def test_no_attribute_is_computed_under_a_lock_of_all_instances() -> None:
    """Python 3.11's cached_property has one: a handler that calls the model inside it waits for ever."""
    files = Path(monograph.__file__).parent.rglob("*.py")
    assert [file.name for file in files if re.search(r"import.* cached_property", file.read_text("utf-8"))] == []


class CallsAtItsEnd:
    """Encodes when it is freed, as a finalizer may in the middle of any call."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    def __del__(self) -> None:
        self.call()


def test_a_call_inside_another_of_the_same_thread_is_refused(model: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = model._open.routes.main.engine
    run_engine = engine.run
    errors: list[str] = []

    def call() -> None:
        try:
            model.encode("another")
        except MonographError as error:
            errors.append(str(error))

    def interrupted(inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        del [CallsAtItsEnd(call)][0]
        return run_engine(inputs, output)

    monkeypatch.setattr(engine, "run", interrupted)
    assert np.isfinite(model.encode("A boat.")).all()
    assert len(errors) == 1
    assert "inside another call of the same thread" in errors[0]
    # Between two blocks of a stream, and while its texts are read, the caller's own code may call.
    texts = (text for text in TEXTS if model.encode(text).shape == (24,))
    for block in model.encode_iter(texts):
        assert model.encode("another").shape == (24,)
        assert len(block) == len(TEXTS)
