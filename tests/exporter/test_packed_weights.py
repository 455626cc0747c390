"""Weights that are packed once and mapped: the same vectors, less memory, and never an obstacle."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from monograph import Embedder, MonographError, prepare
from monograph.bundle import read_probes
from monograph.bundle.probes import write_probes
from monograph.engines.packed_weights import find_packed_graph
from monograph_export import export
from support import checkpoints
from support.command import monograph
from support.manifests import edit_manifest, state_file

WIDE = {"max_position_embeddings": 256, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
TEXTS = ["the harbour", "", "seven grey geese flew over it " * 9]
ANONYMOUS = """
import json, sys
from monograph import Embedder
with Embedder(sys.argv[1], "cpu", cache_dir=sys.argv[2]) as model:
    vector = model.encode("a first text").tolist()
    lines = open("/proc/self/status").read().splitlines()
    print(json.dumps([vector, next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))]))
"""


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose tensors are all of a multiple of 64 bytes, and its layers of 12 MB."""
    folder = tmp_path_factory.mktemp("aligned")
    checkpoint = checkpoints.tiny(folder, config=checkpoints.TINY_BERT | WIDE, max_length=60)
    return export(checkpoint, folder / "bundle").path


@pytest.fixture
def copied(aligned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(aligned, tmp_path / "copied"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_vectors_are_the_same_to_the_last_bit(aligned: Path, tmp_path: Path) -> None:
    with Embedder(aligned, "cpu", cache_dir=tmp_path) as model:
        expected = model.encode(TEXTS)
    [folder] = prepare(aligned, "cpu", cache_dir=tmp_path)
    assert files(folder) == ["hashes", "model.onnx", "model.onnx.data"]
    assert files(tmp_path) == ["packed"]
    written = (folder / "model.onnx").stat().st_mtime_ns
    assert prepare(aligned, "cpu", cache_dir=tmp_path) == (folder,)
    assert (folder / "model.onnx").stat().st_mtime_ns == written
    with Embedder(aligned, "cpu", cache_dir=tmp_path) as model:
        np.testing.assert_array_equal(model.encode(TEXTS), expected)


def test_layers_weights_are_packed_as_the_file_has_them(aligned: Path, tmp_path: Path) -> None:
    """ONNX Runtime would transpose each into a copy, and pack that."""
    [folder] = prepare(aligned, "cpu", cache_dir=tmp_path)
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    stored = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "FusedMatMul" and node.input[1] in stored]
    assert len(products) == 6 * WIDE["num_hidden_layers"]
    assert (1024, 256) in {stored[node.input[1]] for node in products}
    assert not any(node.op_type == "Transpose" and node.input[0] in stored for node in graph.node)


@pytest.mark.slow
def test_weights_that_onnxruntime_leaves_unaligned_are_moved(tmp_path: Path) -> None:
    """Its positions take 28,896 bytes. Kernels that read what lies behind them as it is end the process."""
    config = checkpoints.TINY_BERT | {"max_position_embeddings": 301, "hidden_size": 24}
    bundle = export(checkpoints.tiny(tmp_path, config=config), tmp_path / "bundle").path
    assert_packed_alike(bundle, tmp_path)


@pytest.mark.slow
def test_int8_weights_are_packed(tmp_path: Path) -> None:
    """The scales of the table have an odd size, and all layers are below 1 MB."""
    config = checkpoints.TINY_BERT | {"hidden_size": 128, "intermediate_size": 512}
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(["the harbour", "seven grey geese flew", "over it"] * 10))
    source = checkpoints.tiny(tmp_path, config=config)
    bundle = export(source, tmp_path / "bundle", precision="int8", table="int8", calibration=texts).path
    assert_packed_alike(bundle, tmp_path)


def assert_packed_alike(bundle: Path, cache: Path) -> None:
    """Check that a bundle has the same vectors with packed weights, all of which are aligned."""
    with Embedder(bundle, "cpu", cache_dir=cache) as model:
        expected = model.encode(TEXTS)
    [folder] = prepare(bundle, "cpu", cache_dir=cache)
    assert files(folder) == ["hashes", "model.onnx", "model.onnx.data"]
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    entries = [{entry.key: entry.value for entry in tensor.external_data} for tensor in graph.initializer]
    places = [int(entry["offset"]) for entry in entries if entry]
    packed = [value for entry in entries for key, value in entry.items() if key.startswith("prepacked_")]
    places += [int(number) for value in packed for number in value.rpartition("|")[2].split(";")[:-1:3]]
    assert packed
    assert {place % 64 for place in places} == {0}
    with Embedder(bundle, "cpu", cache_dir=cache) as model:
        assert model._open.routes.main.engine._maps_packed  # type: ignore[attr-defined]
        np.testing.assert_array_equal(model.encode(TEXTS), expected)


@pytest.mark.slow
def test_a_process_has_less_memory_of_its_own(aligned: Path, tmp_path: Path) -> None:
    def measured(cache: str) -> tuple[list[float], int]:
        command = [sys.executable, "-c", ANONYMOUS, str(aligned), str(tmp_path / cache)]
        measurement: tuple[list[float], int] = json.loads(
            subprocess.run(command, capture_output=True, check=True).stdout
        )
        return measurement

    prepare(aligned, "cpu", cache_dir=tmp_path / "prepared")
    (vector, before), (mapped, after) = measured("empty"), measured("prepared")
    assert vector == mapped
    assert before - after > 8e6


def flip(path: Path, position: int) -> None:
    """Change one byte and nothing else that a program can set: size and time of modification stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def damage_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"cut short")


def damage_weights(folder: Path) -> None:
    flip(folder / "model.onnx.data", 10_000)


def damage_hashes(folder: Path) -> None:
    flip(folder / "hashes", 40)


def link_weights(folder: Path) -> None:
    (folder / "model.onnx.data").rename(folder / "elsewhere")
    (folder / "model.onnx.data").symlink_to("elsewhere")


def open_to_group(folder: Path) -> None:
    folder.chmod(0o770)


@pytest.mark.parametrize(
    "damage",
    [
        damage_graph,
        pytest.param(damage_weights, marks=pytest.mark.slow),
        pytest.param(damage_hashes, marks=pytest.mark.slow),
        link_weights,
        pytest.param(open_to_group, marks=pytest.mark.slow),
    ],
)
def test_packed_weights_that_were_damaged_are_not_used_and_written_again(
    damage: Callable[[Path], None], aligned: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [folder] = prepare(aligned, "cpu", cache_dir=tmp_path)
    damage(folder)
    with caplog.at_level(logging.WARNING), Embedder(aligned, "cpu", cache_dir=tmp_path) as model:
        assert model.encode("a boat").shape == (256,)
    assert f"packed weights are not used: {folder} is damaged, or others may write there" in caplog.text
    assert prepare(aligned, "cpu", cache_dir=tmp_path) == (folder,)
    assert files(folder) == ["hashes", "model.onnx", "model.onnx.data"]
    assert find_packed_graph(folder) is not None


def test_a_copied_cache_is_hashed_once(aligned: Path, tmp_path: Path) -> None:
    [folder] = prepare(aligned, "cpu", cache_dir=tmp_path / "cache")
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    hashes = [(copied / "hashes").read_bytes()]
    for _ in range(2):
        assert find_packed_graph(copied) == copied / "model.onnx"
        hashes.append((copied / "hashes").read_bytes())
    assert hashes[0] != hashes[1] == hashes[2]
    flip(copied / "model.onnx.data", 0)
    assert find_packed_graph(copied) is None


@pytest.mark.slow
def test_another_bundle_has_other_packed_weights(aligned: Path, copied: Path, tmp_path: Path) -> None:
    [one] = prepare(aligned, "cpu", cache_dir=tmp_path / "cache")
    edit_manifest(copied, lambda value: value.update(comment="another"))
    [other] = prepare(copied, "cpu", cache_dir=tmp_path / "cache")
    assert one != other


@pytest.mark.slow
def test_what_gives_other_vectors_is_removed(copied: Path, tmp_path: Path) -> None:
    (probes,) = read_probes(copied)
    rolled = type(probes)(probes.texts, probes.token_counts, np.roll(probes.vectors, 1, axis=1))
    file = write_probes(copied, [rolled])
    measurements = json.loads((copied / "measurements.json").read_bytes())
    state_file(copied, file.name, hashlib.sha256(file.read_bytes()).hexdigest())
    # Measured as right at the export, so that opening it does not compare again.
    measurements["manifest_sha256"] = hashlib.sha256((copied / "manifest.json").read_bytes()).hexdigest()
    (copied / "measurements.json").write_text(json.dumps(measurements), encoding="utf-8")
    with pytest.raises(MonographError, match="the bundle is wrong, and they were removed: "):
        prepare(copied, "cpu", cache_dir=tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_written_is_an_error(aligned: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MonographError, match=r"is not a folder.*: pass cache_dir or set MONOGRAPH_CACHE"):
        prepare(aligned, "cpu", cache_dir=tmp_path / "file")


@pytest.mark.slow
def test_the_command_says_how_much_room_it_takes(aligned: Path, tmp_path: Path) -> None:
    env = {"MONOGRAPH_CACHE": str(tmp_path)}
    done = monograph("prepare", aligned, "--device", "cpu", env=env)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "packed").iterdir()
    assert done.stdout.decode().endswith(f" MB: {folder}\n")
    done = monograph("prepare", aligned, "--device", "openvino", env=env)
    assert b"this device has no packed weights" in done.stdout
    assert list((tmp_path / "openvino").iterdir())
