"""`monograph embed`: what it reads, what it writes, and what it says of what it cannot use."""

from __future__ import annotations

import ctypes
import io
import json
import os
import pty
import resource
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest

from monograph import Embedder
from monograph.batching import WINDOW_TEXTS
from support.command import assert_error, monograph

ON_CPU = ("--device", "cpu")
TEXTS = ["first line", "", "третья строка", "a form feed \x0c and \u2028 within a line", "last, without its end"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def vectors_of(lines: bytes) -> np.ndarray:
    return np.array([json.loads(line) for line in lines.splitlines()], dtype=np.float32)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ([], {}),
        (["--precision", "binary", "--truncate-dim", "12"], {"precision": "binary", "truncate_dim": 12}),
        (["--precision", "ubinary"], {"precision": "ubinary"}),
        (["--truncate-dim", "5", "--normalize"], {"truncate_dim": 5, "normalize_embeddings": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("texts", [TEXTS, []], ids=["texts", "none"])
def test_npy_is_what_numpy_saves_of_encode(
    options: list[str], arguments: dict[str, object], texts: list[str], tiny_bundle: Path, tiny_embedder: Embedder,
    tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "in.txt").write_bytes("\n".join(texts).encode())
    done = monograph("embed", tiny_bundle, *ON_CPU, tmp_path / "in.txt", "-o", tmp_path / "out.npy", *options)
    assert done.returncode == 0, done.stderr
    saved = io.BytesIO()
    np.save(saved, tiny_embedder.encode(texts, **arguments))  # type: ignore[call-overload]
    assert (tmp_path / "out.npy").read_bytes() == saved.getvalue()
    assert names(tmp_path) == ["in.txt", "out.npy"]


@pytest.mark.parametrize("texts", [TEXTS, []], ids=["texts", "none"])
def test_jsonl_is_a_vector_a_line(texts: list[str], tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    done = monograph("embed", tiny_bundle, *ON_CPU, "-", "-o", output, stdin="\n".join(texts).encode())
    assert done.returncode == 0, done.stderr
    assert len(output.read_bytes().splitlines()) == len(texts)
    np.testing.assert_array_equal(vectors_of(output.read_bytes()).reshape(-1, 24), tiny_embedder.encode(texts))
    assert names(tmp_path) == ["out.jsonl"]


def test_many_windows_are_in_order(tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    texts = [f"number {number} " * (1 + number * 7 % 5) for number in range(2 * WINDOW_TEXTS + 9)]
    done = monograph("embed", tiny_bundle, *ON_CPU, "-", "-o", tmp_path / "out.npy", stdin="\n".join(texts).encode())
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), tiny_embedder.encode(texts))


def test_standard_input_to_json_lines(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    done = monograph(
        "embed", tiny_bundle, *ON_CPU, "--prompt-name", "query", "--truncate-dim", "5", stdin=b"one\r\ntwo\n"
    )
    expected = tiny_embedder.encode(["one", "two"], prompt_name="query", truncate_dim=5)
    np.testing.assert_array_equal(vectors_of(done.stdout), expected)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"\xef\xbb\xbfone\ntwo", ["one", "two"]),
        (b"\xef\xbb\xbf", []),
        (b"\n", [""]),
        (b"one\r\r\n\r\n", ["one\r", ""]),
        (b"one\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
    ],
    ids=repr,
)
def test_what_a_line_is(content: bytes, texts: list[str], tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    done = monograph("embed", tiny_bundle, *ON_CPU, stdin=content)
    np.testing.assert_array_equal(vectors_of(done.stdout).reshape(-1, 24), tiny_embedder.encode(texts))


def test_json_lines(tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('\ufeff{"text": "a boat", "id": 1}\n"a plain string"\n', encoding="utf-8")
    done = monograph("embed", tiny_bundle, *ON_CPU, tmp_path / "in.jsonl")
    np.testing.assert_array_equal(vectors_of(done.stdout), tiny_embedder.encode(["a boat", "a plain string"]))
    named = monograph("embed", tiny_bundle, *ON_CPU, "--field", "id", stdin=b'{"id": "a boat"}\n')
    np.testing.assert_array_equal(vectors_of(named.stdout)[0], tiny_embedder.encode("a boat"))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b'{"id": "a"}\n{"id": 1}\n', ("line 2", "'id'", "--field")),
        (b"a boat\n", ("line 1", "not JSON")),
        (b'"a"\n\n', ("line 2 is empty, not JSON",)),
        (b"[" * 100_000, ("line 1", "not JSON")),
        (b'"a"\n"\\ud800"\n', ("line 2", "lone surrogate")),
        (b'"a"\n"caf\xe9"\n', ("line 2 is not UTF-8", "iconv")),
    ],
    ids=["field", "plain", "empty", "nested", "surrogate", "latin"],
)
def test_a_bad_line_is_named(lines: bytes, words: tuple[str, ...], tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(lines)
    done = monograph("embed", tiny_bundle, *ON_CPU, tmp_path / "in.txt", "--field", "id", "-o", tmp_path / "out.npy")
    assert_error(done, 1, "in.txt line", *words)
    assert names(tmp_path) == ["in.txt"]


def test_a_pipe_that_stays_open_gives_a_window_once_it_is_full(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    texts = [f"text {number}" for number in range(WINDOW_TEXTS)]
    command = [sys.executable, "-m", "monograph", "embed", str(tiny_bundle), *ON_CPU]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(f"{text}\n" for text in texts).encode())
        process.stdin.flush()
        lines = b"".join(process.stdout.readline() for _ in texts)
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.read() == b""
    np.testing.assert_array_equal(vectors_of(lines), tiny_embedder.encode(texts))


@pytest.mark.parametrize("suffix", [".jsonl", ".npy"])
def test_the_input_is_never_replaced(suffix: str, tiny_bundle: Path, tmp_path: Path) -> None:
    texts = tmp_path / f"in{suffix}"
    texts.write_bytes(b'"a boat"\n')
    link = tmp_path / f"link{suffix}"
    link.symlink_to(texts)
    # What is named .npy is no kind of text.
    options = ["--lines"] if suffix == ".npy" else []
    for output in (texts, link):
        done = monograph("embed", tiny_bundle, *ON_CPU, texts, "-o", output, *options)
        assert_error(done, 1, f"{output} is the input", "choose another output")
    command = f"{sys.executable} -m monograph embed {tiny_bundle} - -o {texts} < {texts}"
    redirected = subprocess.run(["/bin/bash", "-c", command], capture_output=True, timeout=300, check=False)
    assert_error(redirected, 1, f"{texts} is the input")
    assert texts.read_bytes() == b'"a boat"\n'
    assert names(tmp_path) == sorted([texts.name, link.name])


def test_the_output_is_looked_at_before_a_model_is_loaded(tmp_path: Path) -> None:
    """There is no bundle, and that is not what the errors say."""
    for output, words in {"absent/out.npy": "there is no folder absent: make it first", "out.csv": "format"}.items():
        assert_error(monograph("embed", "no-bundle", "-", "-o", output, stdin=b"a\n", cwd=tmp_path), 1, words)


def test_errors_say_what_to_do(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    cases: dict[tuple[object, ...], tuple[str, ...]] = {
        (tmp_path / "absent.txt",): ("absent.txt",),
        ("-", "-o", tmp_path / "out.csv"): (".npy or .jsonl",),
        ("-", "-o", tmp_path / "out.parquet"): ("name it .npy or .jsonl, or give the texts as a table: .parquet, ",),
        ("-", "-o", tmp_path / "absent" / "out.npy"): ("absent",),
        ("-", "-o", tmp_path / "folder.npy"): ("folder.npy is a folder",),
    }
    for arguments, words in cases.items():
        assert_error(monograph("embed", tiny_bundle, *ON_CPU, *arguments, stdin=b"a\n"), 1, *words)
    assert names(tmp_path) == ["folder.npy"]
    assert_error(monograph("embed", tiny_bundle, *ON_CPU, tmp_path), 2, "tables need -o")
    assert_error(monograph("embed", tiny_bundle, *ON_CPU, "-", "--resume"), 2, "--resume needs -o")


def without_write_override() -> None:
    """Take from root the right to write where the folder's mode forbids it."""
    capability_bounding_set_drop, dac_override = 24, 1
    ctypes.CDLL(None).prctl(capability_bounding_set_drop, dac_override, 0, 0, 0)


def test_a_folder_that_cannot_be_written(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    done = monograph(
        "embed", tiny_bundle, *ON_CPU, "-", "-o", folder / "out.npy", stdin=b"a\n", before=without_write_override
    )
    assert_error(done, 1, "out.npy", "Permission denied")


def no_room() -> None:
    """Let the process write no file beyond 1,000 bytes, as a full disk would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_a_failed_write_leaves_the_old_output(suffix: str, tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / f"out{suffix}"
    output.write_bytes(b"the old result")
    done = monograph("embed", tiny_bundle, *ON_CPU, "-", "-o", output, stdin=b"a\n" * 20, before=no_room)
    assert_error(done, 1, f"{output.name}.partial cannot be written (File too large): raise the limit")
    assert output.read_bytes() == b"the old result"
    assert names(tmp_path) == [output.name]


def test_output_into_a_closed_pipe_is_no_traceback(tiny_bundle: Path) -> None:
    command = f"{sys.executable} -m monograph embed {tiny_bundle} - | head -n 1 > /dev/null"
    done = subprocess.run(
        ["/bin/bash", "-c", command], input=b"a text\n" * 4000, capture_output=True, timeout=300, check=False,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.stderr == b""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_sees_how_far_it_is(quiet: bool, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\nb\nc")
    terminal, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))
    command = [sys.executable, "-m", "monograph", "embed", str(tiny_bundle), str(tmp_path / "in.txt"), "-o"]
    command += [str(tmp_path / "out.npy"), *(["--quiet"] if quiet else [])]
    assert subprocess.run(command, stderr=side, timeout=300, check=False).returncode == 0
    # Something to read even where the command was quiet; a terminal is never at its end.
    os.write(side, b"end")
    shown = b""
    while not shown.endswith(b"end"):
        shown += os.read(terminal, 65536)
    os.close(terminal)
    os.close(side)
    assert (b"Texts: 100%" in shown and b"3/3" in shown) != quiet
