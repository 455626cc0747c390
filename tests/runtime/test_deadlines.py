"""What a signal handler of the caller raises during a native call comes out as itself, whatever its class."""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import DeviceError, MonographError
from monograph.batching import TokenBatch
from monograph.bundle import Bundle, open_bundle
from monograph.engines import Engine, EngineOptions, open_engine
from monograph.engines.native import import_engine, is_raised_by
from monograph.hub.requests import explain_errors

FRACTIONS = (0.2, 0.4, 0.6)


class DeadlineError(Exception):
    """A caller's own."""


class RuntimeDeadlineError(RuntimeError):
    """A caller's own, of a class that engines raise too."""


class ValueDeadlineError(ValueError):
    """A caller's own, of a class that bindings raise too."""


CLASSES = [DeadlineError, TimeoutError, RuntimeDeadlineError, ValueDeadlineError, RuntimeError, MemoryError]


# What a handler raises in the callback of a weak reference, Python reports and cannot raise.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    previous = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def engine(bundle: Bundle, request: pytest.FixtureRequest) -> Iterator[Engine]:
    opened = open_engine(bundle, options(request.param))
    yield opened
    opened.close()


def options(device: str) -> EngineOptions:
    return EngineOptions(device, "float32", 2, None)


def interrupt(call: Callable[[], object], kind: type[Exception], fractions: tuple[float, ...] = FRACTIONS) -> int:
    """Interrupt a call at some parts of the time that it takes, and return how often it raised: ``kind`` each time."""
    # A call that another process held up sets the clock too late for the ones after it: then it is measured again.
    for _ in range(5):
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        if raised := sum(_is_interrupted(call, kind, seconds * fraction) for fraction in fractions):
            return raised
    return 0


def _is_interrupted(call: Callable[[], object], kind: type[Exception], seconds: float) -> bool:
    expected = kind("the caller's")
    signal.signal(signal.SIGALRM, functools.partial(raise_error, expected))
    caught: Exception | None = None
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-4))
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Exception as error:  # noqa: BLE001
        caught = error
    assert caught in (None, expected)
    return caught is not None


def raise_error(error: Exception, *_: object) -> None:
    raise error


@pytest.mark.parametrize("kind", CLASSES)
def test_a_run(engine: Engine, kind: type[Exception]) -> None:
    ones = np.ones((128, 96), dtype=np.int64)
    inputs = dict.fromkeys(engine.graph.inputs, ones)
    assert interrupt(lambda: engine.run(inputs), kind)
    assert np.isfinite(engine.run(inputs)).all()


@pytest.mark.parametrize("kind", CLASSES)
def test_many_batches(engine: Engine, kind: type[Exception]) -> None:
    ones = np.ones((16, 96), dtype=np.int64)
    batches = [TokenBatch(np.arange(16), dict.fromkeys(engine.graph.inputs, ones)) for _ in range(20)]
    # The first call compiles a model for many batches, and takes longer than those that are interrupted.
    list(engine.stream(batches))
    assert interrupt(lambda: list(engine.stream(batches)), kind)
    assert len(list(engine.stream(batches))) == 20


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_loading(bundle: Bundle, device: str, kind: type[Exception], capfd: pytest.CaptureFixture[str]) -> None:
    assert interrupt(lambda: open_engine(bundle, options(device)).close(), kind)
    # ONNX Runtime would say that it tries again.
    assert capfd.readouterr().out == ""


def test_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_engine.py").write_text("import signal\nsignal.raise_signal(signal.SIGALRM)\n")
    monkeypatch.syspath_prepend(tmp_path)
    for kind in CLASSES:
        expected = kind("the caller's")
        signal.signal(signal.SIGALRM, functools.partial(raise_error, expected))
        with pytest.raises(kind) as caught:
            import_engine("slow_engine", (1, 0), "slow")
        assert caught.value is expected
    # Without one, what the import raises is the package's.
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    with pytest.raises(DeviceError, match="installed and cannot be loaded"):
        import_engine("slow_engine", (1, 0), "slow")


@pytest.mark.parametrize("kind", CLASSES)
def test_a_download(kind: type[Exception]) -> None:
    expected = kind("the caller's")
    signal.signal(signal.SIGALRM, functools.partial(raise_error, expected))
    with pytest.raises(kind) as caught, explain_errors("org/name"):
        signal.raise_signal(signal.SIGALRM)
    assert caught.value is expected


class Handler:
    def __call__(self, *_: object) -> None:
        raise RuntimeError

    def method(self, *_: object) -> None:
        self()


@pytest.mark.parametrize(
    "handler",
    [Handler(), Handler().method, functools.partial(raise_error, RuntimeError()), lambda *_: raise_error(ValueError())],
    ids=["an object", "a method", "a partial", "a lambda"],
)
def test_handlers_of_every_kind_are_known(handler: Any) -> None:
    signal.signal(signal.SIGALRM, handler)
    with pytest.raises((RuntimeError, ValueError)) as caught:
        signal.raise_signal(signal.SIGALRM)
    assert not is_raised_by("onnxruntime", caught.value)


def test_an_engine_s_own_errors_are_ours(engine: Engine) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    wrong = {name: np.full((1, 4), 10**9) for name in engine.graph.inputs} | {
        next(iter(engine.graph.inputs)): np.ones((2, 3), dtype=np.int64)
    }
    with pytest.raises(MonographError, match="failed on a batch of"):
        engine.run(wrong)
