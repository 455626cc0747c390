"""The peers: what they are refused for, and their vectors beside sentence-transformers'."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from monograph_bench.peers import catalog, environments, exported_models
from monograph_bench.peers.catalog import PEERS, peers_for
from monograph_bench.peers.environments import PeerError, find_python
from monograph_bench.peers.systems import peer_systems
from monograph_bench.process import WORKER
from support import checkpoints
from support.peers import (
    TEXTS,
    change_json,
    check_logits,
    check_sparse,
    encoded,
    measured_peer,
    peer_system,
    torch_vectors,
    worst_cosine,
)
from support.recorder import Recorder
from support.sparse_encoders import save_splade

# Peers that load an encoder and have options for what is behind it.
ENCODER_ONLY = [name for name, peer in PEERS.items() if peer.poolings is not None]
# Peers that load all modules, of which some run the encoder elsewhere than in torch.
EXPORTED_ENCODER = [name for name, peer in PEERS.items() if peer.poolings is None and peer.exported is not None]
# It is calibrated with texts of 384 tokens, which the tiny checkpoint has no positions for.
CALIBRATED = "st-openvino-qint8"
# Where the user's own peers are; the tests' cache is another one, and empty.
HOME = environments.default_home()
# Those behind the first are the same in other types.
FIRST, *OTHERS = (name for name, peer in PEERS.items() if peer.environment == "torch")
TORCH_PEERS = [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
# Peers that load an export of a model of any task.
EXPORTED_OF_ANY_TASK = [name for name in peers_for(None) if PEERS[name].exported is not None]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of the tests' own, for exported models, with the environments that the user's has."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "environments").symlink_to(HOME / "environments")
    return folder


@pytest.fixture(scope="module")
def sparse_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_splade("BERT", tmp_path_factory.mktemp("sparse"))


@pytest.fixture
def slow_home(home: Path, name: str) -> Path:
    """That home, where the peer of the test has its environment."""
    try:
        find_python(name, home)
    except PeerError as error:
        pytest.skip(str(error))
    program = PEERS[name].program
    if program is not None and shutil.which(program) is None:
        pytest.skip(f"{program} is not in PATH")
    return home


def test_the_names_are_those_of_saved_results() -> None:
    # Runs are compared by these names: one that was published stays.
    assert PEERS.keys() >= {
        "sentence-transformers", "st-bf16", "st-onnx", "st-openvino", "optimum", "fastembed", "light-embed",
        "openvino-genai", "st-onnx-qint8", "st-openvino-qint8", "ctranslate2", "transformers.js", "transformers.js-q8",
        "text-embeddings-inference",
    }  # fmt: skip
    assert len(PEERS) == len(catalog._ALL)


def test_each_peer_has_an_adapter() -> None:
    assert all((WORKER / "adapters" / f"{peer.adapter}.py").is_file() for peer in PEERS.values())


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.program is not None])
def test_a_program_that_is_not_there_is_a_reason(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoints.tiny(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    _, reasons = peer_systems([name], checkpoint, threads=1, home=tmp_path)
    assert reasons[name] == f"{PEERS[name].program} is not in PATH: install it to measure {name}"


def test_an_architecture_that_a_peer_has_not_is_a_reason(tmp_path: Path) -> None:
    checkpoint = checkpoints.tiny(tmp_path)
    change_json(checkpoint / "config.json", lambda config: config.update(model_type="mpnet"))
    _, reasons = peer_systems(["ctranslate2"], checkpoint, threads=1, home=tmp_path)
    assert reasons["ctranslate2"] == (
        "ctranslate2 has no encoder of the model type mpnet: it converts bert, camembert, distilbert, roberta, "
        "xlm-roberta"
    )


@pytest.mark.parametrize(
    ("machine", "sets", "configuration"),
    [
        ("x86_64", ["avx2", "avx512f", "avx512_vnni"], "avx512_vnni"),
        ("x86_64", ["avx2", "avx512f"], "avx512"),
        ("x86_64", ["avx2", "avx_vnni"], "avx2"),
        ("aarch64", ["asimddp"], "arm64"),
    ],
)
def test_onnx_is_quantized_for_the_cpu(
    machine: str, sets: list[str], configuration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(exported_models, "instruction_sets", lambda: sets)
    assert exported_models._onnx_configuration() == configuration


def test_an_unknown_peer_is_refused_with_the_names() -> None:
    with pytest.raises(PeerError, match="no peer bert: choose from sentence-transformers, st-bf16"):
        peer_systems(["bert"], Path(), threads=1)


def test_a_folder_that_is_no_checkpoint_is_a_reason(tmp_path: Path) -> None:
    systems, reasons = peer_systems(["fastembed"], tmp_path, threads=1, home=tmp_path)
    assert not systems
    assert reasons["fastembed"].endswith("has neither modules.json nor config.json: it is not a checkpoint")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dense": [{"in_features": 32, "out_features": 16, "activation": "Tanh"}]}, "leaves out .*: Dense"),
        ({"pooling": "max"}, "measured with pooling cls or mean, and this checkpoint has max"),
        ({"pooling": ["cls", "mean"]}, r"this checkpoint has cls \+ mean"),
    ],
)
def test_what_an_encoder_alone_cannot_do_is_a_reason(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.tiny(tmp_path, **options)
    systems, reasons = peer_systems(["sentence-transformers", *ENCODER_ONLY], checkpoint, threads=1, home=tmp_path)
    assert [system.name for system in systems] == ["sentence-transformers"]
    assert list(reasons) == ENCODER_ONLY
    assert all(re.search(reason, given) for given in reasons.values())
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("size", [None, 1, 3, 100])
def test_length_order_gives_back_the_callers(size: int | None) -> None:
    lengths_seen: list[list[int]] = []

    def embed(texts: list[str]) -> NDArray[np.float32]:
        lengths_seen.append([len(text) for text in texts])
        return np.array([[int(text)] for text in texts], np.float32)

    texts = ["10", "2", "300", "4", "50", "600"]
    vectors = _adapters_base().in_length_order(texts, size, embed)
    np.testing.assert_array_equal(vectors[:, 0], [10, 2, 300, 4, 50, 600])
    flat = [length for batch in lengths_seen for length in batch]
    assert flat == sorted(flat, reverse=True)
    assert max(map(len, lengths_seen)) <= (size or 32)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [False, True])
def test_states_are_pooled_without_padding(pooling: str, normalize: bool) -> None:
    states = np.array([[[3, 4], [1, 0], [9, 9]], [[0, 2], [0, 4], [0, 6]]], np.float32)
    expected = [[2, 2], [0, 4]] if pooling == "mean" else [[3, 4], [0, 2]]
    if normalize:
        expected = (np.array(expected) / np.linalg.norm(expected, axis=1, keepdims=True)).tolist()
    vectors = _adapters_base().pool(states, np.array([[1, 1, 0], [1, 1, 1]]), pooling, normalize)
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)


def test_vectors_of_tokens_follow_one_another() -> None:
    base = _adapters_base()
    model = type("Listed", (base.Model,), {"encode": None, "describe": None})()
    matrices = [np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)]
    np.testing.assert_array_equal(model.to_array(matrices), np.concatenate(matrices))
    assert model.to_array([0.5, 1.0]).shape == (2,)


@pytest.mark.parametrize("name", TORCH_PEERS)
def test_torch_peers_give_the_models_vectors(name: str, minilm: Path, minilm_torch: Any, tmp_path: Path) -> None:
    vectors, described = measured_peer(peer_system(name, minilm, tmp_path), tmp_path)
    assert worst_cosine(vectors, encoded(minilm_torch)) > PEERS[name].min_cosine
    assert described["compute_dtype"] == PEERS[name].options["compute_dtype"]
    assert (described["device"], described["threads"]) == ("cpu", "1")


def test_no_peer_adds_the_models_default_prompt(tmp_path: Path) -> None:
    checkpoint = checkpoints.tiny(tmp_path, prompts={"query": "ask: "}, default_prompt_name="query")
    vectors, _ = measured_peer(peer_system("sentence-transformers", checkpoint, tmp_path), tmp_path)
    exact = PEERS["sentence-transformers"].min_cosine
    model = SentenceTransformer(str(checkpoint), device="cpu")
    assert worst_cosine(vectors, model.encode(TEXTS, prompt="", show_progress_bar=False)) > exact
    assert worst_cosine(vectors, model.encode(TEXTS, show_progress_bar=False)) < exact


def test_peers_that_are_not_measured_with_a_task_say_which_are(tiny_cross_checkpoint: Path, tmp_path: Path) -> None:
    systems, reasons = peer_systems(PEERS, tiny_cross_checkpoint, threads=1, home=tmp_path, task="rerank")
    names = peers_for("rerank")
    assert {"sentence-transformers", "st-bf16", "st-onnx"} <= set(names)
    assert [system.name for system in systems] == [name for name in names if PEERS[name].environment == "torch"]
    assert reasons["fastembed"] == f"fastembed is not measured with rerankers: of the peers, {', '.join(names)} are"
    assert reasons["st-onnx"].endswith("run monograph bench --setup-peers st-onnx")


@pytest.mark.parametrize(("task", "what"), [("rerank", "a cross-encoder"), ("sparse", "a sparse encoder")])
def test_a_checkpoint_of_another_task_is_not_exported(
    task: str, what: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    _, reasons = peer_systems(["st-onnx"], tiny_checkpoint, threads=1, home=tmp_path, task=task)
    assert f"lists Transformer, Pooling, Dense, Normalize: peers load {what} that is" in reasons["st-onnx"]


def test_a_folder_without_modules_is_no_sparse_encoder(tmp_path: Path) -> None:
    _, reasons = peer_systems(["st-onnx"], tmp_path, threads=1, home=tmp_path, task="sparse")
    assert reasons["st-onnx"].endswith("has neither modules.json nor config.json: it is not a checkpoint")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    _, reasons = peer_systems(["st-onnx"], tmp_path, threads=1, home=tmp_path, task="sparse")
    assert "lists no modules: peers load a sparse encoder" in reasons["st-onnx"]


@pytest.mark.parametrize("name", TORCH_PEERS)
@pytest.mark.slow
def test_torch_peers_give_the_logits_of_pairs(name: str, tiny_cross_checkpoint: Path, tmp_path: Path) -> None:
    check_logits(name, tiny_cross_checkpoint, tmp_path, tmp_path)


@pytest.mark.parametrize("name", TORCH_PEERS)
@pytest.mark.slow
def test_torch_peers_give_the_sparse_vectors(name: str, sparse_checkpoint: Path, tmp_path: Path) -> None:
    check_sparse(name, sparse_checkpoint, tmp_path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED_OF_ANY_TASK)
def test_exported_peers_give_the_logits_of_pairs(
    name: str, tiny_cross_checkpoint: Path, slow_home: Path, tmp_path: Path
) -> None:
    check_logits(name, tiny_cross_checkpoint, slow_home, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED_OF_ANY_TASK)
def test_exported_peers_give_the_sparse_vectors(
    name: str, sparse_checkpoint: Path, slow_home: Path, tmp_path: Path
) -> None:
    check_sparse(name, sparse_checkpoint, slow_home, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("kind", ["minilm", "cls"])
def test_each_peer_gives_the_models_vectors(
    name: str, kind: str, minilm: Path, slow_home: Path, tmp_path: Path
) -> None:
    if (name, kind) == (CALIBRATED, "cls"):
        pytest.skip("the tiny checkpoint has too few positions for the calibration")
    checkpoint = minilm if kind == "minilm" else checkpoints.tiny(tmp_path, pooling="cls", normalize=False)
    vectors, described = measured_peer(peer_system(name, checkpoint, slow_home), tmp_path)
    expected = torch_vectors(checkpoint)
    assert worst_cosine(vectors, expected) > PEERS[name].min_cosine
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.linalg.norm(expected, axis=1), rtol=0.01)
    assert described["threads"] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPORTED_ENCODER if name != CALIBRATED])
def test_sentence_transformers_keeps_dense_whatever_runs_the_encoder(
    name: str, slow_home: Path, tmp_path: Path
) -> None:
    dense = {"in_features": 32, "out_features": 16, "activation": "Tanh"}
    checkpoint = checkpoints.tiny(tmp_path, pooling="cls", dense=[dense])
    vectors, _ = measured_peer(peer_system(name, checkpoint, slow_home), tmp_path)
    assert worst_cosine(vectors, torch_vectors(checkpoint)) > PEERS[name].min_cosine


@pytest.mark.slow
@pytest.mark.parametrize("name", ["st-onnx"])
def test_a_checkpoint_is_exported_once_and_anew_for_other_weights(name: str, slow_home: Path, tmp_path: Path) -> None:
    checkpoint = checkpoints.tiny(tmp_path, max_length=77)
    recorder = Recorder()
    folders = []
    for peer in (name, "optimum"):
        systems, reasons = peer_systems([peer], checkpoint, threads=1, home=slow_home, progress=recorder)
        assert not reasons
        folders.append(systems[0].options["checkpoint"])
    assert folders[0] == folders[1]
    assert recorder.names == ["Exporting checkpoint to onnx for peers"]
    (checkpoint / "model.safetensors").unlink()
    _, reasons = peer_systems([name], checkpoint, threads=1, home=slow_home)
    assert reasons[name].startswith("optimum-cli export onnx failed: ")
    assert "\n" not in reasons[name]


def _adapters_base() -> Any:
    """Import the adapters' module that needs NumPy alone, from a folder that is no package of this environment."""
    spec = importlib.util.spec_from_file_location("adapters_base", WORKER / "adapters" / "base.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where its dataclass looks for the names of its annotations.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
