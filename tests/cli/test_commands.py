"""The commands as a user runs them: output, files, exit codes, errors in one line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monograph import Embedder
from monograph.engines import dtypes_of
from support.command import assert_error, assert_reported, monograph
from support.manifests import state_file


def test_similarity_prints_the_matrix(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    texts = ["a boat", "the harbour", "a boat"]
    vectors = tiny_embedder.encode(texts)
    expected = tiny_embedder.similarity(vectors, vectors)
    done = monograph("similarity", tiny_bundle, "--device", "cpu", *texts, "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["similarity"] == "cosine"
    np.testing.assert_allclose(printed["matrix"], expected, atol=1e-6)
    lines = monograph("similarity", tiny_bundle, *texts, "--device", "cpu").stdout.decode().splitlines()
    assert [float(value) for value in lines[0].split()[:3]] == [round(float(value), 4) for value in expected[0]]
    assert lines[1].endswith("the harbour")


def test_a_terminal_without_unicode_gets_escapes(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "monograph", "similarity", str(tiny_bundle), "é", "b"]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert b"\\xe9" in done.stdout


def test_info_and_verify(tiny_bundle: Path) -> None:
    info = monograph("info", tiny_bundle)
    assert info.returncode == 0
    for words in ("24 dimensions, unit length, cosine", "96 tokens", "query='search: '", "equal to torch"):
        assert words in info.stdout.decode()
    assert json.loads(monograph("info", tiny_bundle, "--json").stdout)["format_version"] == 1
    verified = monograph("verify", tiny_bundle, "--device", "cpu", "--json")
    assert verified.returncode == 0
    report = json.loads(verified.stdout)
    assert report["passed"]
    [result] = report["verifications"]
    assert result["passed"]
    assert result["max_abs_difference"] <= 1e-5


@pytest.mark.slow
def test_verify_runs_every_engine_and_type_by_default(tiny_bundle: Path) -> None:
    def verified(*options: str) -> list[tuple[str, str]]:
        done = monograph("verify", tiny_bundle, "--json", *options)
        assert done.returncode == 0, done.stderr
        return [(result["device"], result["compute_dtype"]) for result in json.loads(done.stdout)["verifications"]]

    preferred, *others = (("openvino:CPU", dtype) for dtype in dtypes_of("openvino"))
    assert verified() == [preferred, *others, ("cpu", "float32")]
    assert verified("--device", "openvino") == [preferred, *others]
    assert verified("--device", "auto") == [preferred]
    assert verified("--compute-dtype", "auto") == [preferred, ("cpu", "float32")]
    assert verified("--compute-dtype", "float32") == [("openvino:CPU", "float32"), ("cpu", "float32")]
    lines = monograph("verify", tiny_bundle).stdout.decode().splitlines()
    assert sum(line.startswith("passed: ") for line in lines) == len(verified())
    none = monograph("verify", tiny_bundle, "--compute-dtype", "float16")
    assert_error(none, 1, "none of these devices computes in float16")


def test_a_file_may_stand_behind_an_option(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a boat\n")
    done = monograph("embed", tiny_bundle, "--device", "cpu", tmp_path / "in.txt")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_verify_finds_a_wrong_reference(tiny_bundle: Path, tmp_path: Path) -> None:
    """The probes' hash is put right, so that only the vectors themselves can tell."""
    import hashlib
    import shutil

    from monograph.bundle import Probes, read_probes, write_probes

    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (probes,) = read_probes(bundle)
    vectors = probes.vectors.copy()
    vectors[7, 3] += 1e-3
    content = write_probes(bundle, [Probes(probes.texts, probes.token_counts, vectors)]).read_bytes()
    state_file(bundle, "probes.json", hashlib.sha256(content).hexdigest())
    done = monograph("verify", bundle)
    assert done.returncode == 1
    assert "FAILED: max abs difference 1.00e-03" in done.stdout.decode()
    assert not json.loads(monograph("verify", bundle, "--device", "cpu", "--json").stdout)["passed"]


def test_export_from_the_command_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = monograph("export", tiny_checkpoint, tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert "equal to torch" in done.stdout.decode()
    # Nothing of what transformers and torch tell their own developers.
    assert_reported(
        done, "Loading the model", "Tracing the model", "Writing the weights", "Verifying on cpu at float32"
    )
    assert monograph("similarity", tmp_path / "bundle", "a", "b").returncode == 0
    assert_error(monograph("export", tiny_checkpoint, tmp_path / "bundle"), 1, "exists already")
    assert_error(monograph("export", tmp_path / "absent", tmp_path / "x"), 1, "not a folder")


def test_errors_are_one_line_that_says_what_to_do(tiny_bundle: Path, tmp_path: Path) -> None:
    cases: dict[tuple[object, ...], tuple[str, ...]] = {
        ("info", tmp_path / "absent"): ("no such folder", "monograph export"),
        ("similarity", tiny_bundle, "a", "--device", "cuda"): ("cuda",),
        ("similarity", tiny_bundle, "a", "--prompt-name", "answer"): ("answer", "query"),
    }
    for arguments, words in cases.items():
        assert_error(monograph(*arguments, stdin=b"a\n"), 1, *words)


def test_bad_usage_exits_with_2(tiny_bundle: Path) -> None:
    for arguments in ((), ("nonsense",), ("similarity", tiny_bundle), ("embed", tiny_bundle, "--threads", "0")):
        assert_error(monograph(*arguments), 2)


@pytest.mark.parametrize("value", ["x", "0", "2.5", "-1", ""])
def test_a_number_that_is_none_says_what_it_must_be(value: str) -> None:
    done = monograph("embed", "bundle", f"--threads={value}")
    assert_error(done, 2, f"argument --threads: must be a whole number of at least 1, not {value!r}")


def test_common_options_may_stand_before_the_command(tiny_bundle: Path, tmp_path: Path) -> None:
    for arguments in (("--debug", "info", tmp_path / "absent"), ("-v", "--debug", "info", tmp_path / "absent")):
        assert b"BundleError" in monograph(*arguments).stderr
    texts = ("similarity", tiny_bundle, "a", "b", "--device", "cpu")
    for verbose in (("-v", *texts), ("--verbose", *texts), (*texts, "-v")):
        done = monograph(*verbose)
        assert done.returncode == 0
        assert b"runs on" in done.stderr
    assert monograph(*texts).stderr == b""


# With all of them an export as well, which imports torch.
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", pytest.param("<&- >&- 2>&-", marks=pytest.mark.slow)])
def test_closed_streams_are_no_error(closed: str, tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a boat\n")

    def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
        command = shlex.join([sys.executable, "-m", "monograph", *map(str, arguments)])
        return subprocess.run(["/bin/bash", "-c", f"{command} {closed}"], capture_output=True, timeout=300, check=False)

    commands: list[tuple[object, ...]] = [
        ("info", tiny_bundle),
        ("embed", tiny_bundle, tmp_path / "in.txt"),
        ("embed", tiny_bundle, tmp_path / "in.txt", "-v", "-o", tmp_path / "out.npy"),
    ]
    if closed.count("-") == 3:
        commands.append(("export", tiny_checkpoint, tmp_path / "bundle"))
    for arguments in commands:
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "out.npy").shape == (1, 24)
    assert run("info", tmp_path / "absent").returncode == 1
    if "2>" in closed:
        assert run("info", tmp_path / "absent").stdout == b""


PLUGIN = """
import logging
HELP = "a command of another package"
def configure(parser):
    pass
def run(arguments):
    logging.getLogger("plugin.within").info("at work")
    return 0
"""


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """The variables with which two more commands are installed; `broken` cannot be imported."""
    (tmp_path / "plugin-1.0.dist-info").mkdir()
    (tmp_path / "plugin-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    points = "[monograph.commands]\nworks = plugin.works\nbroken = plugin.broken\n"
    (tmp_path / "plugin-1.0.dist-info" / "entry_points.txt").write_text(points)
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "works.py").write_text(PLUGIN)
    (tmp_path / "plugin" / "broken.py").write_text("raise RuntimeError('a cause\\nin two lines')")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))}


def test_a_command_of_another_package_logs_too(plugin: dict[str, str]) -> None:
    for arguments in (("works", "-v"), ("-v", "works")):
        done = monograph(*arguments, env=plugin)
        assert (done.returncode, done.stderr) == (0, b"plugin.within: at work\n")
    assert monograph("works", env=plugin).stderr == b""


def test_a_command_that_cannot_be_imported_stands_in_nobodys_way(plugin: dict[str, str]) -> None:
    done = monograph("--help", env=plugin)
    assert done.returncode == 0
    assert b"works" in done.stdout
    assert b"broken" not in done.stdout
    assert done.stderr.startswith(b"monograph: warning: the command broken cannot be imported (a cause): ")
    assert done.stderr.count(b"\n") == 1
    done = monograph("broken", env=plugin)
    assert_error(done, 1, "the command broken cannot be imported (a cause): reinstall plugin, or remove it")
    assert b"RuntimeError" in monograph("--debug", "broken", env=plugin).stderr


def test_the_runtime_does_not_name_the_exporter() -> None:
    """Its commands come by their entry point alone."""
    import monograph as package

    named = [
        path.name
        for path in Path(package.__path__[0]).rglob("*.py")
        if "monograph_export" in path.read_text(encoding="utf-8")
    ]
    assert named == []


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = monograph("info", tmp_path / "absent", "--debug")
    assert b"Traceback" in done.stderr
    assert b"BundleError" in done.stderr
