"""`monograph embed` of tables again: what is finished, repeated texts, interrupted runs, and workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from monograph import Embedder
from support.command import assert_error
from support.tables import ON_CPU, EmbedHere, assert_rows, embed, many, names, table_of, write


def test_a_finished_table_is_written_again_only_for_another_input(embed_here: EmbedHere, tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / "in" / f"{number}.parquet", table_of(many(1_000)))
    arguments = (tmp_path / "in", "-o", tmp_path / "out")
    assert embed_here(*arguments).returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write(tmp_path / "in" / "1.parquet", table_of(many(1_001)))
    again = embed_here(*arguments)
    assert again.stdout.decode() == f"{tmp_path}/out: 2,001 rows in 2 tables, 1 of them done before\n"
    assert (tmp_path / "out" / "0.parquet").read_bytes() == before["0.parquet"]
    other = embed_here(*arguments, "--precision", "binary")
    assert other.returncode == 1
    assert b"2 of 2 tables failed" in other.stderr
    assert b"was written with other settings (--precision: float32 there, binary now): use those" in other.stderr
    assert embed_here(*arguments, "--precision", "binary", "--replace").returncode == 0
    (tmp_path / "out" / "0.parquet").write_bytes(b"somebody's")
    assert_error(embed_here(*arguments, "--precision", "binary"), 1, "0.parquet is there and not an output")
    assert (tmp_path / "out" / "0.parquet").read_bytes() == b"somebody's"


def test_duplicates_are_computed_once(tiny_embedder: Embedder, embed_here: EmbedHere, tmp_path: Path) -> None:
    texts = [f"text {number % 700}" for number in range(10_000)]
    write(tmp_path / "in" / "0.parquet", table_of(texts[:5_000]))
    write(tmp_path / "in" / "1.parquet", table_of(texts[5_000:], 5_000))
    # A megabyte has room for all, and then for some.
    done = embed_here(tmp_path / "in", "--keep", "id", "-o", tmp_path / "out", "--deduplicate", "1")
    assert done.returncode == 0, done.stderr
    table = pa.concat_tables(pyarrow.parquet.read_table(tmp_path / "out" / f"{number}.parquet") for number in range(2))
    assert_rows(table, texts, tiny_embedder)


def wait_for_output(folder: Path, count: int) -> None:
    end = time.monotonic() + 120
    while len(list(folder.glob("*.parquet"))) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def processes_with(word: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and word in (folder / "environ").read_text("utf-8", "replace"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def many_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for number in range(20):
        write(folder / f"{number:02}.parquet", table_of(many(1_200, number), number))
    return folder


@pytest.fixture(scope="module")
def whole(many_tables: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nothing ended, of one process."""
    output = tmp_path_factory.mktemp("whole")
    done = embed(tiny_bundle, many_tables, "--keep", "id", "--threads", 1, "-o", output)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ended_and_run_again_gives_the_same_bytes(
    workers: int, how: signal.Signals, code: int, tiny_bundle: Path, many_tables: Path, whole: Path, tmp_path: Path
) -> None:
    arguments = (many_tables, "--keep", "id", "--workers", workers, "--threads", 1)
    output = tmp_path / "out"
    command = ["embed", tiny_bundle, *ON_CPU, *arguments, "-o", output]
    mark = f"MARK_OF_TEST={tmp_path}"
    with subprocess.Popen(
        [sys.executable, "-m", "monograph", *map(str, command)],
        stderr=subprocess.PIPE, env=os.environ | {"MARK_OF_TEST": str(tmp_path)},
    ) as process:  # fmt: skip
        wait_for_output(output, 3)
        process.send_signal(how)
        assert process.wait(60) == code
        message = process.stderr.read().decode() if process.stderr else ""
    if how == signal.SIGTERM:
        assert message.startswith("monograph: terminated: ")
        assert message.endswith(" of 20 tables are done, the same command continues\n")
        assert not list(output.glob(".*")), "what was begun is left"
    end = time.monotonic() + 20
    while processes_with(mark):
        assert time.monotonic() < end, "workers outlive their parent"
        time.sleep(0.05)
    finished = {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    assert 3 <= len(finished) < 20
    again = embed(tiny_bundle, *arguments, "-o", output)
    assert again.returncode == 0, again.stderr
    assert f"{len(finished)} of them done before" in again.stdout.decode()
    assert names(output) == names(whole)
    for path in output.iterdir():
        assert path.read_bytes() == (whole / path.name).read_bytes()
        assert path.stat().st_mtime_ns == finished.get(path.name, path.stat().st_mtime_ns)


@pytest.mark.slow
def test_workers_choose_themselves_and_share_no_cpu(tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path) -> None:
    texts = many(3_000)
    write(tmp_path / "in" / "0.parquet", table_of(texts[:2_000]))
    write(tmp_path / "in" / "1.parquet", table_of(texts[2_000:], 2_000))
    arguments = (tmp_path / "in", "--keep", "id", "-o", tmp_path / "out", "--workers", "auto", "-v")
    done = embed(tiny_bundle, *arguments)
    assert done.returncode == 0, done.stderr
    if len(os.sched_getaffinity(0)) > 1:
        assert b"workers: 1 x " in done.stderr
    tables = [pyarrow.parquet.read_table(tmp_path / "out" / f"{number}.parquet") for number in range(2)]
    assert_rows(pa.concat_tables(tables), texts, tiny_embedder)
    assert pc.sum(pc.is_null(tables[0]["embedding"])).as_py() == 0
