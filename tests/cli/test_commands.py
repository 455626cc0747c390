"""The commands as a user runs them: output, files, exit codes, errors in one line."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monograph import Embedder


def monograph(*arguments: object, stdin: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "monograph", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, timeout=300, check=False)


def assert_error(done: subprocess.CompletedProcess[bytes], code: int, *words: str) -> None:
    message = done.stderr.decode()
    assert done.returncode == code, message
    assert "Traceback" not in message
    for word in words:
        assert word in message
    if code == 1:
        assert message.startswith("monograph: error: ")
        assert message.count("\n") == 1


def test_similarity_prints_the_matrix(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    texts = ["a boat", "the harbour", "a boat"]
    vectors = tiny_embedder.encode(texts)
    expected = tiny_embedder.similarity(vectors, vectors)
    done = monograph("similarity", tiny_bundle, *texts, "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["similarity"] == "cosine"
    np.testing.assert_allclose(printed["matrix"], expected, atol=1e-6)
    lines = monograph("similarity", tiny_bundle, *texts).stdout.decode().splitlines()
    assert [float(value) for value in lines[0].split()[:3]] == [round(float(value), 4) for value in expected[0]]
    assert lines[1].endswith("the harbour")


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_embed_writes_a_vector_a_line(suffix: str, tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    texts = ["first line", "", "третья строка", "a form feed \x0c and \u2028 within a line", "last, without its end"]
    (tmp_path / "in.txt").write_bytes("\n".join(texts).encode())
    output = tmp_path / f"out{suffix}"
    done = monograph("embed", tiny_bundle, tmp_path / "in.txt", "-o", output)
    assert done.returncode == 0, done.stderr
    vectors = (
        np.load(output)
        if suffix == ".npy"
        else np.array([json.loads(line) for line in output.read_text().splitlines()])
    )
    np.testing.assert_array_equal(vectors.astype(np.float32), tiny_embedder.encode(texts))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", output.name]


def test_embed_reads_standard_input_and_prints_json_lines(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    done = monograph("embed", tiny_bundle, "--prompt-name", "query", "--truncate-dim", "5", stdin=b"one\r\ntwo\n")
    vectors = np.array([json.loads(line) for line in done.stdout.splitlines()], dtype=np.float32)
    np.testing.assert_array_equal(vectors, tiny_embedder.encode(["one", "two"], prompt_name="query", truncate_dim=5))


def test_embed_reads_json_lines(tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a boat", "id": 1}\n"a plain string"\n')
    done = monograph("embed", tiny_bundle, tmp_path / "in.jsonl")
    vectors = np.array([json.loads(line) for line in done.stdout.splitlines()], dtype=np.float32)
    np.testing.assert_array_equal(vectors, tiny_embedder.encode(["a boat", "a plain string"]))
    named = monograph("embed", tiny_bundle, "--field", "id", stdin=b'{"id": "a boat"}\n')
    np.testing.assert_allclose(json.loads(named.stdout), vectors[0], atol=1e-6)
    assert_error(monograph("embed", tiny_bundle, "--field", "id", stdin=b'{"id": 1}\n'), 1, "line 1", "'id'")
    assert_error(monograph("embed", tiny_bundle, "--field", "id", stdin=b"a boat\n"), 1, "line 1", "not JSON")


def test_a_terminal_without_unicode_gets_escapes(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "monograph", "similarity", str(tiny_bundle), "é", "b"]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert b"\\xe9" in done.stdout


def test_info_and_verify(tiny_bundle: Path) -> None:
    info = monograph("info", tiny_bundle)
    assert info.returncode == 0
    for words in ("24 dimensions, unit length, cosine", "256 tokens", "query='search: '", "equal to torch"):
        assert words in info.stdout.decode()
    assert json.loads(monograph("info", tiny_bundle, "--json").stdout)["format_version"] == 1
    verified = monograph("verify", tiny_bundle, "--device", "cpu", "--json")
    assert verified.returncode == 0
    verdict = json.loads(verified.stdout)
    assert verdict["passed"]
    assert verdict["max_abs_difference"] <= 1e-5
    assert "passed" in monograph("verify", tiny_bundle).stdout.decode()


def test_verify_finds_a_wrong_reference(tiny_bundle: Path, tmp_path: Path) -> None:
    """The probes' hash is put right, so that only the vectors themselves can tell."""
    import hashlib
    import shutil

    from monograph.bundle import Probes, read_probes, write_probes

    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    probes = read_probes(bundle)
    vectors = probes.vectors.copy()
    vectors[7, 3] += 1e-3
    content = write_probes(bundle, Probes(probes.texts, probes.token_counts, vectors)).read_bytes()
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["probes.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = monograph("verify", bundle)
    assert done.returncode == 1
    assert "FAILED: max abs difference 1.00e-03" in done.stdout.decode()


def test_export_from_the_command_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = monograph("export", tiny_checkpoint, tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert "equal to torch" in done.stdout.decode()
    assert monograph("similarity", tmp_path / "bundle", "a", "b").returncode == 0
    assert_error(monograph("export", tiny_checkpoint, tmp_path / "bundle"), 1, "exists already")
    assert_error(monograph("export", tmp_path / "absent", tmp_path / "x"), 1, "not a folder")


def test_errors_are_one_line_that_says_what_to_do(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("café\n".encode("latin-1"))
    cases: dict[tuple[object, ...], tuple[str, ...]] = {
        ("info", tmp_path / "absent"): ("no such folder", "monograph export"),
        ("similarity", tiny_bundle, "a", "--device", "cuda"): ("cuda",),
        ("similarity", tiny_bundle, "a", "--prompt-name", "answer"): ("answer", "query"),
        ("embed", tiny_bundle, tmp_path / "absent.txt"): ("absent.txt",),
        ("embed", tiny_bundle, tmp_path / "latin.txt"): ("not UTF-8", "iconv"),
        ("embed", tiny_bundle, "-", "-o", tmp_path / "out.csv"): (".npy or .jsonl",),
        ("embed", tiny_bundle, "-", "-o", tmp_path / "absent" / "out.npy"): ("absent",),
    }
    for arguments, words in cases.items():
        assert_error(monograph(*arguments, stdin=b"a\n"), 1, *words)


def test_bad_usage_exits_with_2(tiny_bundle: Path) -> None:
    for arguments in ((), ("nonsense",), ("similarity", tiny_bundle), ("embed", tiny_bundle, "--threads", "0")):
        assert_error(monograph(*arguments), 2)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = monograph("info", tmp_path / "absent", "--debug")
    assert b"Traceback" in done.stderr
    assert b"BundleError" in done.stderr


def no_room() -> None:
    """Let the process write no file beyond 1,000 bytes, as a full disk would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


# The first ends within the write buffer and fails when that is flushed, the second fails while it is written.
@pytest.mark.parametrize("lines", [20, 2000])
@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_a_failed_write_leaves_the_old_output(lines: int, suffix: str, tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / f"out{suffix}"
    output.write_bytes(b"the old result")
    command = [sys.executable, "-m", "monograph", "embed", str(tiny_bundle), "-", "-o", str(output)]
    done = subprocess.run(command, input=b"a\n" * lines, capture_output=True, check=False, preexec_fn=no_room)
    assert_error(done, 1, "File too large")
    assert output.read_bytes() == b"the old result"
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_output_into_a_closed_pipe_is_no_traceback(tiny_bundle: Path) -> None:
    command = f"{sys.executable} -m monograph embed {tiny_bundle} - | head -n 1 > /dev/null"
    done = subprocess.run(
        ["/bin/bash", "-c", command], input=b"a text\n" * 4000, capture_output=True, timeout=300, check=False,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.stderr == b""
