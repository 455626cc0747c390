"""`monograph embed --resume`: a run that was cut off goes on, and ends with the bytes of one that was not."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monograph.batching import WINDOW_CHARACTERS, WINDOW_TEXTS
from support.command import assert_error, monograph, restore_ctrl_c

LINES = [f"text {number} " + "boat " * (number * 7 % 11) for number in range(3 * WINDOW_TEXTS + 100)]
# Cuts a window by its characters, so that windows do not begin at multiples of their number of texts.
LINES[WINDOW_TEXTS + 700] = "a long way " * (WINDOW_CHARACTERS // 11)
INPUT = "".join(f"{line}\n" for line in LINES).encode()
BLOCKS = [WINDOW_TEXTS, WINDOW_TEXTS + 700]


# How a format continues is tested in tests/runtime/test_vector_file.py.
@pytest.fixture(scope="module", params=[".npy", pytest.param(".jsonl", marks=pytest.mark.slow)])
def whole(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nothing cut off."""
    output = tmp_path_factory.mktemp("whole") / f"out{request.param}"
    assert monograph("embed", tiny_bundle, "-", "-o", output, stdin=INPUT).returncode == 0
    return output


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def texts_done(output: Path) -> int:
    try:
        return int(json.loads(output.with_name(f"{output.name}.progress").read_bytes())["texts"])
    except FileNotFoundError:
        return 0


@contextmanager
def running(bundle: Path, output: Path, texts: int, *options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has been given the first ``texts`` lines, has written every full window of them and waits for more."""
    command = [sys.executable, "-m", "monograph", "embed", *map(str, (bundle, "-", "-o", output, *options))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=restore_ctrl_c) as process:
        assert process.stdin is not None
        process.stdin.write("".join(f"{line}\n" for line in LINES[:texts]).encode())
        process.stdin.flush()
        expected = max((block for block in BLOCKS if block <= texts), default=0)
        partial = output.with_name(f"{output.name}.partial")
        end = time.monotonic() + 120
        while texts_done(output) != expected or not partial.exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)
        try:
            yield process
        finally:
            process.kill()


def cut_off(bundle: Path, output: Path, texts: int, how: signal.Signals, *options: object) -> tuple[int, str]:
    """Return the exit code and the message on standard error."""
    with running(bundle, output, texts, *options) as process:
        process.send_signal(how)
        assert process.stderr is not None
        message = process.stderr.read().decode()
        return process.wait(timeout=60), message


def resume(bundle: Path, output: Path, *options: object, stdin: bytes = INPUT) -> subprocess.CompletedProcess[bytes]:
    return monograph("embed", bundle, "-", "-o", output, "--resume", *options, stdin=stdin)


def assert_resumes_to(whole: Path, bundle: Path, output: Path) -> None:
    done = resume(bundle, output)
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == whole.read_bytes()
    assert names(output.parent) == [output.name]


@pytest.mark.parametrize(
    ("how", "code", "word", "texts"),
    [
        (signal.SIGINT, 130, "interrupted", WINDOW_TEXTS + 400),
        (signal.SIGTERM, 143, "terminated", WINDOW_TEXTS + 701),
        # What SIGKILL leaves is the minimum: nothing is done on the way out.
        pytest.param(signal.SIGKILL, -9, "", WINDOW_TEXTS, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, "", WINDOW_TEXTS + 400, marks=pytest.mark.slow),
        (signal.SIGKILL, -9, "", WINDOW_TEXTS + 701),
    ],
)
def test_cut_off_and_resumed_is_as_if_nothing_had_happened(
    how: signal.Signals, code: int, word: str, texts: int, whole: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / whole.name
    output.write_bytes(b"the old result")
    exit_code, message = cut_off(tiny_bundle, output, texts, how)
    assert exit_code == code
    done = texts_done(output)
    assert done == (BLOCKS[1] if texts > BLOCKS[1] else BLOCKS[0])
    if word:
        assert message == f"monograph: {word}: {done:,} texts are in {output}.partial, --resume continues from there\n"
    assert output.read_bytes() == b"the old result"
    assert names(tmp_path) == [output.name, f"{output.name}.partial", f"{output.name}.progress"]
    assert_resumes_to(whole, tiny_bundle, output)


def test_cut_off_twice(whole: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / whole.name
    cut_off(tiny_bundle, output, BLOCKS[0], signal.SIGKILL)
    cut_off(tiny_bundle, output, BLOCKS[1] + 1, signal.SIGKILL, "--resume")
    assert texts_done(output) == BLOCKS[1]
    assert_resumes_to(whole, tiny_bundle, output)


@pytest.mark.parametrize(("how", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_where_nothing_is_done_nothing_is_left(
    how: signal.Signals, word: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    _, message = cut_off(tiny_bundle, tmp_path / "out.npy", 10, how)
    assert message == f"monograph: {word}: no vectors were saved yet: repeat the command to start again\n"
    assert names(tmp_path) == []


def test_killed_before_the_first_block_starts_from_the_beginning(
    whole: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / whole.name
    cut_off(tiny_bundle, output, 10, signal.SIGKILL)
    assert names(tmp_path) == [f"{output.name}.partial"]
    assert_resumes_to(whole, tiny_bundle, output)
    assert_resumes_to(whole, tiny_bundle, output)


def test_without_resume_what_is_done_is_not_lost(whole: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / whole.name
    partial = output.with_name(f"{output.name}.partial")
    cut_off(tiny_bundle, output, BLOCKS[0], signal.SIGKILL, "--normalize")
    before = partial.read_bytes()
    done = monograph("embed", tiny_bundle, "-", "-o", output, stdin=INPUT)
    assert_error(done, 1, f"{BLOCKS[0]:,} texts of an interrupted run are in {partial}: --resume", "remove that file")
    assert partial.read_bytes() == before
    partial.unlink()
    assert monograph("embed", tiny_bundle, "-", "-o", output, stdin=INPUT).returncode == 0
    assert output.read_bytes() == whole.read_bytes()
    assert names(tmp_path) == [output.name]


def test_a_bad_line_keeps_what_was_done_before_it(whole: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / whole.name
    head = "".join(f"{line}\n" for line in LINES[:WINDOW_TEXTS]).encode()
    done = monograph("embed", tiny_bundle, "-", "-o", output, stdin=head + b"caf\xe9\n")
    assert_error(
        done, 1, f"line {WINDOW_TEXTS + 1} is not UTF-8", f"; {WINDOW_TEXTS:,} texts are in", "--resume continues"
    )
    assert_resumes_to(whole, tiny_bundle, output)


def room_for(size: int) -> Callable[[], None]:
    """Let the process write no file beyond ``size`` bytes, as a full disk would."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_keeps_what_was_done_before(whole: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / whole.name
    # The second block is written in part.
    size = whole.stat().st_size * BLOCKS[0] // len(LINES) + 20_000
    done = monograph("embed", tiny_bundle, "-", "-o", output, stdin=INPUT, before=room_for(size))
    assert_error(done, 1, "out", ".partial cannot be written (File too large)", f"{BLOCKS[0]:,} texts are in")
    assert output.with_name(f"{output.name}.partial").stat().st_size == size
    assert_resumes_to(whole, tiny_bundle, output)


@pytest.fixture
def unfinished(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The output of a run that was killed after its first block."""
    output = tmp_path / "out.npy"
    cut_off(tiny_bundle, output, BLOCKS[0], signal.SIGKILL)
    return output


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--prompt-name", "query"], "--prompt: '' there, 'search: ' now"),
        (["--truncate-dim", "20"], "--truncate-dim: 24 there, 20 now"),
        (["--normalize"], "--normalize: False there, True now"),
        (["--precision", "ubinary"], "--precision: float32 there, ubinary now"),
    ],
    ids=str,
)
def test_other_settings_are_refused(options: list[str], word: str, unfinished: Path, tiny_bundle: Path) -> None:
    before = unfinished.with_name("out.npy.partial").read_bytes()
    done = resume(tiny_bundle, unfinished, *options)
    assert_error(done, 1, word, "remove that file to start over")
    assert "goes on" not in done.stderr.decode()
    assert unfinished.with_name("out.npy.partial").read_bytes() == before


def test_another_model_is_refused(unfinished: Path, minilm_bundle: Path) -> None:
    assert_error(resume(minilm_bundle, unfinished), 1, "fingerprint of bundle, engine and device: ", "to start over")


def test_other_batches_are_not(unfinished: Path, tiny_bundle: Path) -> None:
    assert resume(tiny_bundle, unfinished, "--batch-size", "7", "--threads", "1").returncode == 0


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (INPUT.replace(b"text 5 ", b"text five ", 1), f"first {BLOCKS[0]:,} texts are not those of"),
        (INPUT.replace(b"text 5 ", b"text\n5 ", 1), f"first {BLOCKS[0]:,} texts are not those of"),
        (INPUT[:100], f"texts, but {BLOCKS[0]:,} are done in"),
        (b"", f"the input has 0 texts, but {BLOCKS[0]:,} are done in"),
    ],
    ids=["changed", "cut elsewhere", "shorter", "empty"],
)
def test_another_input_is_refused(
    stdin: bytes, words: str, unfinished: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    done = resume(tiny_bundle, unfinished, stdin=stdin)
    assert_error(done, 1, words, "remove that file to start over")
    assert "goes on" not in done.stderr.decode()
    assert names(tmp_path) == ["out.npy.partial", "out.npy.progress"]
    assert resume(tiny_bundle, unfinished).returncode == 0


def test_two_runs_do_not_write_the_same_file(whole: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / whole.name
    with running(tiny_bundle, output, BLOCKS[0]) as process:
        for options in ([], ["--resume"]):
            second = monograph("embed", tiny_bundle, "-", "-o", output, *options, stdin=INPUT)
            assert_error(second, 1, f"{output.name}.partial is being written by another run")
        rest = "".join(f"{line}\n" for line in LINES[BLOCKS[0] :]).encode()
        process.communicate(rest, timeout=120)
        assert process.returncode == 0
    assert output.read_bytes() == whole.read_bytes()
    assert names(tmp_path) == [output.name]
