"""Ray: a cluster of three nodes embeds what one process embeds, also if it loses one of them."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import ray
import ray.data

from monograph import Embedder, InputError, MonographError
from monograph.integrations.ray import EmbedBatch, share_bundle
from support.command import assert_error, monograph
from support.ray_nodes import Cluster, processes_of_session

# Ray's processes share two cores with what they wait for.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """Three nodes of one CPU each."""
    running.add_nodes(3)
    return running


def texts_of(count: int) -> list[str]:
    return [f"text {number} " + "boat " * (number * 7 % 11) for number in range(count)]


def write_tables(folder: Path, count: int, rows: int) -> list[str]:
    """Write tables and return their texts."""
    folder.mkdir()
    texts = texts_of(count * rows)
    for number in range(count):
        ids = range(number * rows, (number + 1) * rows)
        table = pa.table({"id": pa.array(ids, pa.int64()), "text": [texts[place] for place in ids]})
        pyarrow.parquet.write_table(table, folder / f"{number:02}.parquet")
    return texts


def command(bundle: Path, folder: Path, output: Path, *options: object) -> list[object]:
    return ["embed", bundle, folder, "--keep", "id", "-o", output, "--device", "cpu", "--threads", 1, *options]


def assert_same_files(first: Path, second: Path) -> None:
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_cluster_writes_the_same_bytes(
    cluster: Cluster, tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path
) -> None:
    texts = write_tables(tmp_path / "in", 6, 1_000)
    assert monograph(*command(tiny_bundle, tmp_path / "in", tmp_path / "here")).returncode == 0
    (tmp_path / "in" / "99.parquet").write_bytes(b"not a table")
    there = command(tiny_bundle, tmp_path / "in", tmp_path / "there", "--ray", cluster.address)
    done = monograph(*there)
    # Ray's core may have written lines of its own before.
    last = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith(f"monograph: error: {tmp_path}/in/99.parquet cannot be read")
    assert last.endswith("; the other 6 tables are done")
    assert_same_files(tmp_path / "here", tmp_path / "there")
    tables = [pyarrow.parquet.read_table(tmp_path / "there" / f"{number:02}.parquet") for number in range(6)]
    vectors = np.array(pa.concat_tables(tables)["embedding"].to_pylist())
    np.testing.assert_allclose(vectors, tiny_embedder.encode(texts), atol=1e-6)
    (tmp_path / "in" / "99.parquet").unlink()
    again = monograph(*there)
    assert again.stdout.decode().endswith("6,000 rows in 6 tables, 6 of them done before\n"), again.stderr


def writes_below(folder: Path, session: int) -> bool:
    """Return whether a process of a session has a file open below a folder."""
    for process in processes_of_session(session):
        with suppress(OSError):
            for file in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    if file.readlink().is_relative_to(folder):
                        return True
    return False


def test_a_lost_node_loses_no_row(cluster: Cluster, tiny_bundle: Path, tmp_path: Path) -> None:
    write_tables(tmp_path / "in", 16, 3_000)
    assert monograph(*command(tiny_bundle, tmp_path / "in", tmp_path / "here")).returncode == 0
    there = tmp_path / "there"
    arguments = command(tiny_bundle, tmp_path / "in", there, "--ray", cluster.address)
    with subprocess.Popen(
        [sys.executable, "-m", "monograph", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        end, lost = time.monotonic() + 1200, cluster.nodes[-1].process.pid
        while not (list(there.glob("*.parquet")) and writes_below(there, lost)):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)
        cluster.remove_node()
        output, error = process.communicate(timeout=1200)
    assert process.returncode == 0, error
    # A table is done before, if the lost node could not report it any more.
    assert re.fullmatch(rf"{there}: 48,000 rows in 16 tables(, [12] of them done before)?\n", output.decode()), (
        output + error
    )
    # What the lost node was writing is removed by the next that writes there, or here.
    for path in there.glob(".*"):
        shutil.rmtree(path)
    assert_same_files(tmp_path / "here", there)


@pytest.fixture
def connected(cluster: Cluster) -> Iterator[None]:
    ray.init(cluster.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.mark.parametrize("batch_format", ["pyarrow", "pandas", "numpy"])
def test_map_batches_with_an_actor_class(
    batch_format: str, connected: None, tiny_bundle: Path, tiny_embedder: Embedder
) -> None:
    texts = texts_of(500)
    rows = ray.data.from_items([{"id": place, "text": text} for place, text in enumerate(texts)], override_num_blocks=5)
    embedded = rows.map_batches(
        EmbedBatch,
        fn_constructor_args=(share_bundle(tiny_bundle),),
        fn_constructor_kwargs={"device": "cpu", "fingerprint": tiny_embedder.fingerprint},
        batch_size=128,
        batch_format=batch_format,
        concurrency=2,
        num_cpus=1,
    )
    found: dict[int, Any] = {row["id"]: row["embedding"] for row in embedded.iter_rows()}
    np.testing.assert_allclose(np.stack([found[place] for place in range(500)]), tiny_embedder.encode(texts), atol=1e-6)


def test_the_bundle_of_the_store_is_used_where_its_path_is_not(
    connected: None, tiny_bundle: Path, tiny_embedder: Embedder, tmp_path: Path
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    shared = share_bundle(tmp_path / "bundle")
    shutil.rmtree(tmp_path / "bundle")
    folder = shared.locate()
    assert folder != tmp_path / "bundle"
    with Embedder(folder, device="cpu", check="full") as model:
        np.testing.assert_allclose(model.encode(["a"]), tiny_embedder.encode(["a"]), atol=1e-6)


def test_another_fingerprint_is_refused(tiny_bundle: Path) -> None:
    embed = EmbedBatch(tiny_bundle, device="cpu", fingerprint="0123456789abcdef")
    with pytest.raises(MonographError, match=r"has the fingerprint .* and the run has 0123456789abcdef"):
        embed({"text": ["a"]})


def test_a_node_with_another_model_ends_the_run(cluster: Cluster, tiny_bundle: Path, tmp_path: Path) -> None:
    """One node is given another version of the engine, by the path of its modules."""
    (tmp_path / "sitecustomize.py").write_text("import onnxruntime; onnxruntime.__version__ += '.post1'\n")
    cluster.remove_node()
    cluster.add_nodes(3, env={"PYTHONPATH": str(tmp_path)})
    # More than the others finish before that node has an actor; the run ends with the first that it has.
    write_tables(tmp_path / "in", 24, 20_000)
    done = monograph(*command(tiny_bundle, tmp_path / "in", tmp_path / "out", "--ray", cluster.address))
    cluster.remove_node()
    assert done.returncode == 1, done.stderr
    assert "has the fingerprint" in done.stderr.decode()


def test_no_cluster_there(tiny_bundle: Path, tmp_path: Path) -> None:
    write_tables(tmp_path / "in", 1, 5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        done = monograph(*command(tiny_bundle, tmp_path / "in", tmp_path / "out", "--ray", address))
    assert_error(done, 1, "there is no Ray cluster at 127.0.0.1:", "ray start --head")


def test_a_cluster_that_wants_a_token(cluster: Cluster, tiny_bundle: Path, tmp_path: Path) -> None:
    write_tables(tmp_path / "in", 1, 5)
    there = command(tiny_bundle, tmp_path / "in", tmp_path / "out", "--ray", cluster.address)
    done = monograph(*there, env={"RAY_AUTH_MODE": "disabled"})
    assert done.returncode == 1
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith(f"monograph: error: Ray does not connect to {cluster.address} (")
    assert "RAY_AUTH_MODE=token" in last


def test_batches_that_are_not_usable(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    embed = EmbedBatch(tiny_bundle, device="cpu")
    with pytest.raises(InputError, match="there is no column 'text'; the batch has 'body'"):
        embed({"body": ["a"]})
    with pytest.raises(InputError, match="row 1 of the batch has no text"):
        embed(pa.table({"text": ["a", None]}))
    with pytest.raises(InputError, match="got list"):
        embed(["a"])
    table = EmbedBatch(tiny_bundle, device="cpu", nulls="null")(pa.table({"text": ["a", None]}))
    assert table["embedding"].null_count == 1
    np.testing.assert_allclose(table["embedding"][0].as_py(), tiny_embedder.encode("a"), atol=1e-6)


def test_the_snippet_runs(connected: None, run_snippet: Any) -> None:
    assert run_snippet("ray").endswith("['text', 'embedding']\n")
