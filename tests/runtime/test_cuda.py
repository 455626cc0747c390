"""CUDA on a machine without it: every cause is named. What runs on a GPU is checked by scripts/gpu-check."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from monograph import DeviceError, Embedder
from monograph.bundle import open_bundle
from monograph.engines import Engine, EngineOptions, open_engine
from monograph.engines.cuda import (
    CudaEngine,
    OutOfMemoryError,
    count_operators_elsewhere,
    find_cpu_fallback,
    states_out_of_memory,
)
from monograph.engines.cuda_libraries import (
    find_driver_problems,
    find_library_problems,
    find_package_problems,
    read_cuda_major,
)


def installed(folder: Path, *names: str) -> str:
    """A folder of packages that are installed by name alone."""
    for name in names:
        metadata = folder / f"{name.replace('-', '_')}-1.31.1.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n")
    return str(folder)


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_one_error_names_everything_that_is_missing(device: str, tiny_bundle: Path) -> None:
    with pytest.raises(DeviceError, match=f"'{device}' cannot run here: ") as caught:
        Embedder(tiny_bundle, device)
    assert "onnxruntime is installed, which has no CUDA: pip uninstall it, then pip install" in str(caught.value)
    assert "there is no NVIDIA driver (libcuda.so.1): install it, and check with nvidia-smi" in str(caught.value)


@pytest.mark.parametrize("device", ["cuda:", "cuda:a", "cuda:-1", "cuda:1.5", "cuda: 1"])
def test_a_gpu_has_a_number(device: str, tiny_bundle: Path) -> None:
    with pytest.raises(DeviceError, match="name a GPU by its number, as 'cuda' or 'cuda:1'"):
        Embedder(tiny_bundle, device)


class Build:
    """A build of ONNX Runtime that an import gives."""

    def __init__(self, *providers: str) -> None:
        self._providers = providers

    def get_available_providers(self) -> list[str]:
        return [f"{name}ExecutionProvider" for name in self._providers]


@pytest.mark.parametrize(
    ("build", "names", "words"),
    [
        (None, [], ["onnxruntime-gpu is not installed: pip install 'monograph[cuda]'"]),
        (Build("CPU"), ["onnxruntime"], ["onnxruntime is installed, which has no CUDA"]),
        (Build("CPU"), ["onnxruntime", "onnxruntime-gpu"], ["is imported in place of onnxruntime-gpu"]),
        (Build("CUDA", "CPU"), ["onnxruntime-gpu"], []),
        # A build with CUDA that is first on the path, or was installed last.
        (Build("CUDA", "CPU"), ["onnxruntime", "onnxruntime-gpu"], []),
        (Build("CUDA", "CPU"), ["onnxruntime"], []),
    ],
    ids=["none", "cpu", "cpu before gpu", "gpu", "gpu before cpu", "gpu without metadata"],
)
def test_the_imported_build_decides(
    build: Any, names: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [installed(tmp_path, *names)])
    problems = find_package_problems(build)
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


def test_nvidia_libraries_are_found_in_another_folder_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "packages" / "nvidia" / name / "lib" for name in ("cu13", "cudnn")]
    for folder in (*folders, tmp_path / "packages" / "nvidia" / "cu12" / "lib"):
        folder.mkdir(parents=True)
    calls: list[tuple[bool, bool, str | None]] = []

    class Preloading:
        __file__ = str(tmp_path / "unpacked" / "onnxruntime" / "__init__.py")
        cuda_version = "13.0"

        def preload_dlls(self, cuda: bool = True, cudnn: bool = True, directory: str | None = None) -> None:
            calls.append((cuda, cudnn, directory))

    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "packages")])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    [problem] = find_library_problems(Preloading())  # type: ignore[arg-type]
    assert calls == [(True, False, str(folders[0])), (False, True, str(folders[1])), (True, True, None)]
    assert "or install CUDA 13 and cuDNN 9" in problem


class Driver:
    """A driver that says its version, as CUDA's does: 12040 is 12.4."""

    def __init__(self, version: int, code: int) -> None:
        self._version, self._code = version, code

    def cuDriverGetVersion(self, place: Any) -> int:  # noqa: N802 - CUDA's name
        place._obj.value = self._version
        return self._code


@pytest.mark.parametrize(
    ("version", "code", "major", "words"),
    [
        (12040, 0, 13, "runs CUDA 12 and the installed onnxruntime-gpu is built for CUDA 13: update the driver, or"),
        (13000, 0, 13, ""),
        (13010, 0, 12, ""),
        (12040, 0, None, ""),
        (0, 100, 13, "does not say its version (error 100)"),
    ],
)
def test_a_driver_of_another_cuda_is_named(version: int, code: int, major: int | None, words: str) -> None:
    problems = find_driver_problems(major, load=lambda _: Driver(version, code))
    assert len(problems) == bool(words)
    assert all(words in problem for problem in problems)


def test_the_driver_is_looked_for_by_its_library() -> None:
    def load(name: str) -> Any:
        return ctypes.CDLL(f"not-there-{name}")

    assert "there is no NVIDIA driver (libcuda.so.1)" in find_driver_problems(13, load)[0]


def test_a_build_without_cuda_has_no_version_of_it() -> None:
    assert read_cuda_major(onnxruntime) is None


def test_a_graph_of_int8_is_not_for_gpus(tiny_int8_bundle: Path) -> None:
    assert "cuda" not in open_bundle(tiny_int8_bundle).manifest.graphs[0].devices
    with pytest.raises(DeviceError, match="for 'cuda', which runs fp32 and fp16: export it with --precision fp16"):
        Embedder(tiny_int8_bundle, "cuda")


def test_operators_that_would_run_on_the_cpu_are_counted(tiny_bundle: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(str(tiny_bundle / "model.onnx"), options, providers=["CPUExecutionProvider"])
    counts = count_operators_elsewhere(session, "CUDAExecutionProvider")
    assert counts["MatMul"] >= 4
    assert "Shape" not in counts
    assert count_operators_elsewhere(session, "CPUExecutionProvider") == {}
    assert "cannot start CUDA, and would compute on the CPU" in find_cpu_fallback(session)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 939524096", True),
        ("BFCArena::AllocateRawInternal Available memory of 0 is smaller than requested bytes of 2048", True),
        ("CUDA failure 2: out of memory ; GPU=0", True),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("CUDA failure 700: an illegal memory access was encountered", False),
        ("indices element out of data bounds, idx=-1 must be within the inclusive range", False),
    ],
)
def test_messages_of_too_little_memory(message: str, expected: bool) -> None:
    assert states_out_of_memory(message) == expected


class SmallMemory(CudaEngine):
    """ONNX Runtime's CPU in place of a GPU on which batches above ``max_rows`` run out of memory."""

    def __init__(self, engine: Engine, max_rows: int) -> None:
        self._engine, self._max_rows = engine, max_rows
        self.device, self.tokens_per_batch = "cuda", 32_768
        self.sizes: list[int] = []

    def _run(self, inputs: Mapping[str, NDArray[np.int64]], output: str | None) -> NDArray[np.float32]:
        rows = len(inputs["input_ids"])
        if rows > self._max_rows:
            raise OutOfMemoryError(f"{rows} texts")
        self.sizes.append(rows)
        return self._engine.run(inputs, output)


def test_a_batch_without_memory_is_run_in_parts(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = open_engine(open_bundle(tiny_bundle), EngineOptions("cpu", "auto", 1, None))
    generator = np.random.default_rng(0)
    shape = (11, 300)
    inputs = {
        name: generator.integers(5, 900, shape) if name == "input_ids" else np.full(shape, name == "attention_mask")
        for name in engine.graph.inputs
    }
    inputs = {name: values[:, :40].astype(np.int64) for name, values in inputs.items()}
    small = SmallMemory(engine, 3)
    np.testing.assert_allclose(small.run(inputs), engine.run(inputs), atol=1e-6)
    assert small.sizes == [2, 3, 3, 3]
    # Later batches are planned smaller, and that is said once.
    assert small.tokens_per_batch == 512
    assert len([record for record in caplog.records if "too little free memory" in record.message]) == 1
    with pytest.raises(OutOfMemoryError, match="1 texts"):
        SmallMemory(engine, 0).run(inputs)
    engine.close()
