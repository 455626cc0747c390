"""OpenVINO behind the engine interface."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import BundleError, DeviceError, Embedder, MonographError
from monograph.batching import padding_buckets_up_to
from monograph.bundle import open_bundle
from monograph.engines import EngineOptions, dtypes_of, open_engine
from monograph.engines.openvino import OpenVinoEngine, _config, _core
from monograph.engines.openvino_models import StaticModels

TEXTS = ["A boat.", "", "Two boats lie in the harbour, and one of them is for sale." * 3, "палуба", "港"]
DTYPES_HERE = dtypes_of("openvino")
TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}


def cached_files(cache: Path) -> list[Path]:
    return sorted((cache / "openvino").glob("*"))


def embed(bundle: Path, cache: Path, compute_dtype: str = "float32") -> NDArray[np.float32]:
    with Embedder(bundle, "openvino", compute_dtype, cache_dir=cache) as model:
        vectors: NDArray[np.float32] = model.encode(TEXTS)
        return vectors


@pytest.mark.parametrize("compute_dtype", DTYPES_HERE)
def test_its_vectors_are_those_of_onnx_runtime(tiny_bundle: Path, tiny_embedder: Embedder, compute_dtype: str) -> None:
    with Embedder(tiny_bundle, "openvino", compute_dtype) as model:
        assert (model.device, model.compute_dtype) == ("openvino:CPU", compute_dtype)
        assert model.engine.startswith("openvino 20")
        difference = np.abs(model.encode(TEXTS) - tiny_embedder.encode(TEXTS)).max()
    assert difference <= TOLERANCE[compute_dtype]


def test_the_preferred_type_is_bfloat16_where_the_hardware_has_it(tiny_bundle: Path) -> None:
    flags = Path("/proc/cpuinfo").read_text()
    has_it = "avx512_bf16" in flags or "amx_bf16" in flags
    assert DTYPES_HERE[0] == ("bfloat16" if has_it else "float32")
    with Embedder(tiny_bundle, "openvino") as model:
        assert model.compute_dtype == DTYPES_HERE[0]


@pytest.mark.skipif("bfloat16" not in DTYPES_HERE, reason="OpenVINO has no bfloat16 on this CPU")
def test_a_dense_after_the_pooling_leaves_the_layer_norms_in_float32(tiny_bundle: Path, tmp_path: Path) -> None:
    options = EngineOptions("openvino", "bfloat16", 1, tmp_path)
    for _ in ("compiled", "from the cache"):
        engine = open_engine(open_bundle(tiny_bundle), options)
        assert isinstance(engine, OpenVinoEngine)
        compiled = engine._model.get().compiled  # type: ignore[attr-defined]
        nodes = [dict(node.get_rt_info().items()) for node in compiled.get_runtime_model().get_ordered_ops()]
        types = {
            kind: {node["runtimePrecision"].astype(str) for node in nodes if node["layerType"].astype(str) == kind}
            for kind in ("MVN", "FullyConnected")
        }
        assert types == {"MVN": {"f32"}, "FullyConnected": {"bf16"}}
        engine.close()


@pytest.mark.parametrize("device", ["openvino:GPU", "openvino:NPU", "openvino:GPU.1"])
def test_a_device_that_openvino_does_not_see_is_refused_with_those_it_sees(tiny_bundle: Path, device: str) -> None:
    if device.partition(":")[2].partition(".")[0] in {name.partition(".")[0] for name in _core().available_devices}:
        pytest.skip(f"this machine has {device}")
    with pytest.raises(DeviceError, match=f"{device}.*'openvino:CPU'.*driver"):
        Embedder(tiny_bundle, device)


def test_auto_of_openvino_tells_the_device_it_took(tiny_bundle: Path, tiny_embedder: Embedder) -> None:
    with Embedder(tiny_bundle, "openvino:AUTO", "float32") as model:
        assert model.device in {f"openvino:{name}" for name in _core().available_devices}
        assert np.abs(model.encode(TEXTS) - tiny_embedder.encode(TEXTS)).max() <= 1e-5


def test_it_runs_batches_of_any_shape_until_it_is_closed(tiny_bundle: Path, tmp_path: Path) -> None:
    engine = open_engine(open_bundle(tiny_bundle), EngineOptions("openvino", "float32", 1, tmp_path))
    assert (engine.name, engine.device, engine.compute_dtype, engine.threads) == (
        "openvino", "openvino:CPU", "float32", 1,
    )  # fmt: skip
    inputs: dict[str, NDArray[np.int64]] = {}
    for rows, tokens in ((1, 1), (3, 17), (2, 256)):
        inputs = {name: np.ones((rows, tokens), dtype=np.int64) for name in engine.graph.inputs}
        result = engine.run(inputs)
        assert result.shape == (rows, 24)
        assert result.dtype == np.float32
    with pytest.raises(MonographError, match="batch of 1 texts and 4 tokens") as caught:
        engine.run({"another": np.ones((1, 4), dtype=np.int64)})
    assert len(str(caught.value).splitlines()) == 1
    assert np.isfinite(engine.run(inputs)).all()
    engine.close()
    engine.close()
    with pytest.raises(MonographError, match="closed"):
        engine.run(inputs)


def test_a_result_stays_as_it_is_while_the_engine_goes_on(tiny_bundle: Path, tmp_path: Path) -> None:
    engine = open_engine(open_bundle(tiny_bundle), EngineOptions("openvino", "float32", 1, tmp_path))
    first = engine.run({name: np.full((2, 9), 1, dtype=np.int64) for name in engine.graph.inputs})
    before = first.copy()
    engine.run({name: np.full((2, 9), 3 if name == "input_ids" else 1, dtype=np.int64) for name in engine.graph.inputs})
    assert (first == before).all()
    engine.close()


def test_a_graph_that_cannot_be_loaded_is_a_bundle_error(
    bundle_copy: Path, replace_file: Callable[[str, bytes], None]
) -> None:
    replace_file("model.onnx", (bundle_copy / "model.onnx").read_bytes().replace(b"MatMul", b"NatMul"))
    with pytest.raises(BundleError, match=r"OpenVINO \S+ cannot load model\.onnx") as caught:
        Embedder(bundle_copy, "openvino")
    assert len(str(caught.value).splitlines()) == 1


def test_a_compiled_model_is_cached_small_and_comes_back_the_same(tiny_bundle: Path, tmp_path: Path) -> None:
    first = embed(tiny_bundle, tmp_path)
    [file] = cached_files(tmp_path)
    written = file.stat().st_mtime_ns
    assert file.stat().st_size < 2_000_000
    assert (embed(tiny_bundle, tmp_path) == first).all()
    assert [file] == cached_files(tmp_path)
    assert file.stat().st_mtime_ns == written


def test_another_type_or_another_bundle_is_compiled_for_itself(
    tiny_bundle: Path, bundle_copy: Path, tmp_path: Path, edit_manifest: Callable[[Callable[..., object]], None]
) -> None:
    for number, dtype in enumerate(DTYPES_HERE, start=1):
        embed(tiny_bundle, tmp_path, dtype)
        assert len(cached_files(tmp_path)) == number
    edit_manifest(lambda value: value["prompts"].update(query="find: "))
    embed(bundle_copy, tmp_path)
    assert len(cached_files(tmp_path)) == len(DTYPES_HERE) + 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_cache_is_compiled_anew(tiny_bundle: Path, tmp_path: Path, damage: str) -> None:
    first = embed(tiny_bundle, tmp_path)
    [file] = cached_files(tmp_path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        file.write_bytes({"cut": bytes(content[: len(content) // 2]), "flipped": bytes(content), "empty": b""}[damage])
    assert (embed(tiny_bundle, tmp_path) == first).all()
    assert [file] == cached_files(tmp_path)


def test_a_cache_that_cannot_be_written_is_done_without(tiny_bundle: Path, tmp_path: Path) -> None:
    first = embed(tiny_bundle, tmp_path / "good")
    blocked = tmp_path / "file"
    blocked.write_text("no folder can be made under a file")
    assert (embed(tiny_bundle, blocked / "cache") == first).all()
    closed = tmp_path / "closed"
    closed.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert (embed(tiny_bundle, closed) == first).all()


def test_processes_that_start_at_once_share_a_cache(tiny_bundle: Path, tmp_path: Path) -> None:
    code = "import sys; from monograph import Embedder; print(Embedder(sys.argv[1], 'openvino').encode('a').sum())"
    command = [sys.executable, "-c", code, str(tiny_bundle)]
    environment = os.environ | {"MONOGRAPH_CACHE": str(tmp_path)}

    def run(_: int) -> bytes:
        return subprocess.run(command, check=True, capture_output=True, env=environment).stdout

    with ThreadPoolExecutor(6) as pool:
        sums = list(pool.map(run, range(6)))
    assert len(set(sums)) == 1
    assert len(cached_files(tmp_path)) == 1


def test_shapes_are_few_however_texts_vary_in_length() -> None:
    padding_buckets = padding_buckets_up_to(256)
    assert padding_buckets[-1] == 256
    assert (np.diff(padding_buckets) > 0).all()
    assert len(padding_buckets) < 60
    lengths = np.arange(1, 257)
    padded = padding_buckets[np.searchsorted(padding_buckets, lengths)]
    assert (padded >= lengths).all()
    assert (padded - lengths).sum() < 0.05 * lengths.sum()


# The size of the kernel cache, the bundle and the folder of the cache; prints the growth in bytes by 400 more shapes.
GROWTH = """
import sys
from pathlib import Path
import numpy as np
import monograph.engines.openvino as openvino
from monograph.bundle import open_bundle
from monograph.engines import EngineOptions, open_engine

openvino._KERNEL_CACHE_SIZE = int(sys.argv[1])
engine = open_engine(open_bundle(Path(sys.argv[2])), EngineOptions("openvino", "float32", 1, Path(sys.argv[3])))
used = []
for rows in range(1, 13):
    for width in range(2, 102, 2):
        engine.run({name: np.ones((rows, width), np.int64) for name in engine.graph.inputs})
    lines = Path("/proc/self/status").read_text().splitlines()
    used.append(int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024)
print(used[-1] - used[3])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports it in /proc")
@pytest.mark.parametrize("compiled", ["compiled", "from the cache"])
@pytest.mark.slow
def test_a_smaller_kernel_cache_takes_less_memory(compiled: str, tiny_bundle: Path, tmp_path: Path) -> None:
    if compiled == "from the cache":
        for count in (30, 5000):
            grown(count, tiny_bundle, tmp_path)
    assert grown(30, tiny_bundle, tmp_path) < 0.6 * grown(5000, tiny_bundle, tmp_path)


def grown(kernel_cache_size: int, bundle: Path, cache: Path) -> int:
    command = [sys.executable, "-c", GROWTH, str(kernel_cache_size), str(bundle), str(cache)]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def engine_of(bundle: Path, cache: Path) -> OpenVinoEngine:
    engine = open_engine(open_bundle(bundle), EngineOptions("openvino", DTYPES_HERE[0], 2, cache))
    assert isinstance(engine, OpenVinoEngine)
    return engine


def test_models_of_one_shape_give_the_same_for_every_row(tiny_bundle: Path, tmp_path: Path) -> None:
    """What an NPU would be given, here on the CPU."""
    bundle = open_bundle(tiny_bundle)
    [graph] = bundle.manifest.graphs
    options = EngineOptions("openvino", "float32", 1, tmp_path)
    padding_buckets = np.array([16, 64], dtype=np.int64)
    model = StaticModels(
        _core(),
        tiny_bundle / graph.file,
        [*graph.inputs, *graph.outputs],
        "CPU",
        _config("CPU", options, 100),
        padding_buckets,
    )
    assert model.signature == {**graph.inputs, **graph.outputs}
    engine = open_engine(bundle, options)
    random = np.random.default_rng(0)
    for width in (16, 64):
        mask = (np.arange(width) < np.array([[3], [width], [9]])).astype(np.int64)
        inputs = {
            "input_ids": random.integers(5, 900, (3, width)) * mask,
            "attention_mask": mask,
            "token_type_ids": 0 * mask,
        }
        assert np.abs(model.infer(inputs) - engine.run(inputs)).max() <= 1e-5
    with pytest.raises(RuntimeError, match="17 tokens"):
        model.infer({name: np.ones((1, 17), dtype=np.int64) for name in graph.inputs})
    engine.close()


IMPORT_AND_TELL = """
import sys
from monograph import Embedder
assert "openvino" not in sys.modules, "loaded before a bundle needs it"
Embedder(sys.argv[1], "openvino", cache_dir=sys.argv[2]).close()
import openvino
print("openvino_telemetry" in sys.modules, hasattr(openvino, "convert_model"))
import openvino_telemetry
"""


def test_openvino_s_telemetry_is_not_loaded_and_leaves_nothing_in_the_home(tiny_bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", IMPORT_AND_TELL, str(tiny_bundle), str(tmp_path / "cache")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | {"HOME": str(home)})
    assert done.stdout.split() == ["False", "True"], done.stderr
    assert not list(home.iterdir())
