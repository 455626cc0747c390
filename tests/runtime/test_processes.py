"""Threads, forked and spawned workers, pickles, the end of the interpreter, and machines with little to write to."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from monograph import BundleError, Embedder, MonographError

DEVICES = ("cpu", "openvino")
# What bfloat16 may differ by where the neighbours, and so the shape, differ.
TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}
SECONDS = 120
TEXTS = ["A boat.", "", "A longer text, which is about boats and about the harbour in which they lie. " * 3, "палуба"]


@pytest.fixture(scope="module", params=DEVICES)
def model(tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Embedder]:
    with Embedder(tiny_bundle, request.param) as opened:
        yield opened


def run(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=SECONDS, env=os.environ | environment
    )


def test_many_threads_get_the_right_vectors(model: Embedder) -> None:
    texts = [f"text {number} " * (1 + number % 40) for number in range(120)]
    expected = model.encode(texts)

    def calls(seed: int) -> float:
        random = np.random.default_rng(seed)
        worst = 0.0
        for _ in range(25):
            chosen = random.integers(0, len(texts), random.integers(1, 5))
            vectors = model.encode([texts[i] for i in chosen])
            worst = max(worst, float(np.abs(vectors - expected[chosen]).max()))
        return worst

    with ThreadPoolExecutor(64) as pool:
        assert max(pool.map(calls, range(64))) <= TOLERANCE[model.compute_dtype]


def test_a_pickled_model_opens_its_bundle_again(model: Embedder) -> None:
    copy: Embedder = pickle.loads(pickle.dumps(model))
    assert (copy.encode(TEXTS) == model.encode(TEXTS)).all()
    assert copy.fingerprint == model.fingerprint
    assert repr(copy) == repr(model)
    copy.close()
    assert np.isfinite(model.encode("A boat.")).all()


def test_a_pickled_model_finds_its_bundle_from_another_folder(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    with Embedder(tiny_bundle.name, "cpu") as opened:
        monkeypatch.chdir(tmp_path)
        with pickle.loads(pickle.dumps(opened)) as copy:
            assert copy.encode("A boat.").shape == (24,)


def test_a_pickled_model_refuses_another_bundle_in_the_place_of_its_own(bundle_copy: Path) -> None:
    with Embedder(bundle_copy, "cpu") as opened:
        pickled = pickle.dumps(opened)
    manifest = bundle_copy / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    # Opened where it is used: an error while a worker unpickles would be lost, and the pool would wait for ever.
    copy: Embedder = pickle.loads(pickled)
    with pytest.raises(BundleError, match="another bundle than the one that was pickled"):
        copy.encode("A boat.")
    shutil.rmtree(bundle_copy)
    with pytest.raises(BundleError, match="no such folder"):
        copy.encode("A boat.")
    copy.close()


def test_spawned_workers_embed(model: Embedder) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for vectors in pool.map(model.encode, [TEXTS] * 4, timeout=SECONDS):
            assert (vectors == model.encode(TEXTS)).all()


FORK = """
import os, sys
import numpy as np
from monograph import Embedder, MonographError
bundle, device, texts = sys.argv[1], sys.argv[2], ["A boat.", "Two boats " * 30]
model = Embedder(bundle, device)
expected = model.encode(texts)
worker = os.fork()
if worker == 0:
    for what, use in (("inherited", lambda: model), ("new", lambda: Embedder(bundle, device))):
        try:
            print(what, bool(np.abs(use().encode(texts) - expected).max() <= 1e-5), flush=True)
        except MonographError as error:
            print(what, type(error).__name__, error, flush=True)
    model.close()
    sys.exit(7)
print("exit", os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
print("parent", bool((model.encode(texts) == expected).all()))
"""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("parallelism", ["true", "false"])
def test_a_forked_worker_gets_a_clear_error_or_the_right_vectors_and_ends(
    tiny_bundle: Path, device: str, parallelism: str
) -> None:
    # Where it is true, tokenizers goes on to use a pool of threads that the worker does not have.
    done = run(FORK, tiny_bundle, device, TOKENIZERS_PARALLELISM=parallelism)
    assert done.returncode == 0, done.stderr
    inherited, new, *rest = done.stdout.splitlines()
    assert inherited.startswith("inherited MonographError this model was opened before the process was forked")
    if device == "cpu":
        assert new == "new True"
    else:
        assert new.startswith("new DeviceError OpenVINO was started before this process was forked")
    assert rest == ["exit 7", "parent True"]


FORK_OF_ANOTHER_USER = """
import os, signal, sys
import tokenizers
if sys.argv[2] == "openvino":
    import openvino
    openvino.Core()
tokenizers.Tokenizer.from_file(sys.argv[1] + "/tokenizer.json").encode_batch_fast(["a", "b"] * 50)
worker = os.fork()
if worker == 0:
    signal.alarm(60)
    from monograph import DeviceError, Embedder
    try:
        print(Embedder(sys.argv[1], sys.argv[2]).encode(["A boat.", "Two boats"] * 50).shape, flush=True)
    except DeviceError as error:
        print(error, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
"""


@pytest.mark.parametrize(("device", "answer"), [("cpu", "(100, 24)"), ("openvino", "OpenVINO was started before")])
def test_what_another_library_started_before_the_fork_is_not_waited_for(
    tiny_bundle: Path, device: str, answer: str
) -> None:
    done = run(FORK_OF_ANOTHER_USER, tiny_bundle, device, TOKENIZERS_PARALLELISM="true")
    assert done.stdout.startswith(answer), done.stderr
    assert done.stdout.endswith("\n0\n")


FORK_IN_THE_MIDDLE = """
import os, signal, sys
from monograph import Embedder, MonographError
model = Embedder(sys.argv[1], sys.argv[2], threads=2)
blocks = model.encode_iter(f"text {n} " + "boat " * (n % 50) for n in range(9000))
done = len(next(blocks))
for use in (next, lambda blocks: blocks.close(), lambda blocks: None):
    worker = os.fork()
    if worker == 0:
        signal.alarm(60)
        try:
            use(blocks)
        except MonographError as error:
            print(error, flush=True)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), flush=True)
print(done + sum(map(len, blocks)))
"""


@pytest.mark.parametrize("device", DEVICES)
def test_a_worker_forked_between_two_blocks_ends(tiny_bundle: Path, device: str) -> None:
    done = run(FORK_IN_THE_MIDDLE, tiny_bundle, device, TOKENIZERS_PARALLELISM="true")
    error, *rest = done.stdout.splitlines()
    assert error.startswith("this model was opened before the process was forked"), done.stderr
    assert rest == ["0", "0", "0", "9000"]


FORK_WHILE_BUSY = """
import os, signal, sys, threading, time
from monograph import Embedder, MonographError
model = Embedder(sys.argv[1], sys.argv[2])
def work():
    while True:
        model.encode(["A boat.", "Two boats " * 30])
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
for _ in range(8):
    time.sleep(0.02)
    worker = os.fork()
    if worker == 0:
        signal.alarm(20)  # A worker that hangs is ended by this, which its exit code shows.
        try:
            model.encode("A boat.")
        except MonographError:
            os._exit(5)
        os._exit(6)
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("device", DEVICES)
def test_a_worker_forked_from_a_busy_process_does_not_hang(tiny_bundle: Path, device: str) -> None:
    done = run(FORK_WHILE_BUSY, tiny_bundle, device)
    assert done.stdout.split() == ["5"] * 8, done.stderr


POOL = """
import multiprocessing, sys
import numpy as np
from monograph import Embedder, DeviceError
model = Embedder(sys.argv[1], sys.argv[2])
texts = ["A boat.", "Two boats"]
with multiprocessing.get_context("fork").Pool(2) as pool:
    try:
        print(bool((np.array(pool.map(model.encode, [texts, texts])) == model.encode(texts)).all()))
    except DeviceError as error:
        print(error)
"""


@pytest.mark.parametrize("device", DEVICES)
def test_a_pool_of_forked_workers_gives_vectors_or_a_clear_error(tiny_bundle: Path, device: str) -> None:
    """Their model comes in a pickle, so it is not the inherited one."""
    done = run(POOL, tiny_bundle, device)
    assert done.returncode == 0, done.stderr
    assert "leaked" not in done.stderr
    if device == "cpu":
        assert done.stdout.strip() == "True"
    else:
        assert "start the workers with 'spawn'" in done.stdout


LEFT_OPEN = """
import sys, threading
from monograph import Embedder
model = Embedder(sys.argv[1], sys.argv[2])
model.encode(["A boat.", "Two boats " * 30])
print([thread.name for thread in threading.enumerate()])
"""


@pytest.mark.parametrize("device", DEVICES)
def test_a_model_that_was_left_open_does_not_hold_up_the_exit(tiny_bundle: Path, device: str) -> None:
    done = run(LEFT_OPEN, tiny_bundle, device)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "['MainThread']", "")


WITHOUT_NETWORK = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError(f"{event} {arguments}")
sys.addaudithook(refuse)
from monograph import Embedder
with Embedder(sys.argv[1], sys.argv[2]) as model:
    print(model.encode(["A boat."]).shape)
"""


@pytest.mark.parametrize("device", [*DEVICES, "auto"])
def test_a_bundle_in_a_folder_needs_no_network_and_no_home(tiny_bundle: Path, tmp_path: Path, device: str) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    # An ordinary user cannot write there; to root nothing is read-only, so there the home is no folder at all.
    place = home if os.geteuid() else Path(os.devnull)
    cache = {"MONOGRAPH_CACHE": "", "XDG_CACHE_HOME": "", "HOME": str(place)}
    done = run(WITHOUT_NETWORK, tiny_bundle, device, **cache)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "(1, 24)", "")
    assert not list(home.iterdir())


@pytest.mark.parametrize("device", DEVICES)
def test_a_thread_that_closes_ends_the_others_with_an_error(tiny_bundle: Path, device: str) -> None:
    opened = Embedder(tiny_bundle, device)
    messages: list[str] = []

    def work() -> None:
        try:
            for _ in range(1000):
                opened.encode(TEXTS)
        except MonographError as error:
            messages.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    opened.close()
    for thread in threads:
        thread.join(SECONDS)
    assert messages == ["the model was closed: open it again to go on"] * 4


def test_a_pickled_model_that_is_closed_before_its_first_use_stays_closed(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle, "cpu") as opened:
        copy: Embedder = pickle.loads(pickle.dumps(opened))
    # A second pickle, and its name, do not open it.
    again: Embedder = pickle.loads(pickle.dumps(copy))
    assert "not opened yet" in repr(again)
    copy.close()
    with pytest.raises(MonographError, match="the model was closed"):
        copy.encode("A boat.")
    assert again.encode("A boat.").shape == (24,)
    again.close()


OPENED_WHILE_FORKED = """
import os, pickle, signal, sys
from monograph import Embedder, MonographError
model = pickle.loads(pickle.dumps(Embedder(sys.argv[1], "cpu")))
model._opening.acquire()  # As a thread would hold it that is opening the model at the moment of the fork.
worker = os.fork()
if worker == 0:
    signal.alarm(60)
    print(model.encode("A boat.").shape, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
"""


def test_a_model_that_was_being_opened_when_a_worker_was_forked_opens_in_the_worker(tiny_bundle: Path) -> None:
    done = run(OPENED_WHILE_FORKED, tiny_bundle)
    assert done.stdout.splitlines() == ["(24,)", "0"], done.stderr
