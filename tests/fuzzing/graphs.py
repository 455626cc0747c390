"""Cases that are a bundle with another graph, or other weights, whose hashes its manifest states."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fuzzing import use
from fuzzing.bundles import BundleKind
from fuzzing.byte_mutations import mutate_bytes
from fuzzing.case import Case
from fuzzing.graph_mutations import GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_ENTRY, mutate_graph
from fuzzing.outcomes import RESULT, Violation
from fuzzing.protobuf import Message, parse
from fuzzing.workplace import BUNDLES, Content, Special, state_files
from monograph import Embedder

_WEIGHTS = (5, 3, 2, 2, 2)
_GRAPH, _DATA = "model.onnx", "model.onnx.data"
# Of a vector beside that of a probe where the project says that they are equal.
_MIN_COSINE = 0.99
_HOSTILE_VALUES = (0, -1, 2**62, -(2**63), 300, 2**31)


class MutatedGraph:
    """The files of a bundle, its parsed graph and the bytes of its weights."""

    def __init__(self, bundle: str, files: dict[str, Content]) -> None:
        self.bundle = bundle
        self.files = files
        self.content = self._bytes(_GRAPH)
        model = parse(self.content)
        self.places = _tensor_places(model)
        self.model: Message | None = model
        self.weights = self._bytes(_DATA)

    def graph_bytes(self) -> bytes:
        """Return the graph, as bytes where it was mutated as such."""
        return self.content if self.model is None else self.model.to_bytes()

    def _bytes(self, name: str) -> bytes:
        content = self.files[name]
        assert isinstance(content, bytes)
        return content


class Graphs(BundleKind):
    """model.onnx and model.onnx.data; hashes, sizes and the files next to them are as the graph wants them."""

    name: ClassVar[str] = "graphs"

    def start(self, random: random.Random) -> MutatedGraph:
        """Choose a bundle, next to whose files lie one that is not listed and a link."""
        bundle = random.choices(BUNDLES, _WEIGHTS)[0]
        files = dict(self.place.originals[bundle])
        if random.random() < 0.5:
            files["unlisted.bin"] = b"\x43" * (1 << 16)
            files["link.data"] = Special("link", "../outside.bin")
        return MutatedGraph(bundle, files)

    def mutate(self, data: MutatedGraph, random: random.Random) -> str:
        """Mutate the graph's messages, its bytes, or the weights."""
        choice = random.random()
        if choice < 0.12:
            data.content, done = mutate_bytes(data.graph_bytes(), random)
            data.model = None
            return f"{_GRAPH}: {done}"
        if choice < 0.3 or data.model is None:
            return _mutate_weights(data, random)
        return mutate_graph(data.model, random, self.place.outside)

    def files(self, case: Case) -> dict[str, Content]:
        """Return the files, with sizes and hashes as they are."""
        data: MutatedGraph = case.data
        files = {**data.files, _GRAPH: data.graph_bytes(), _DATA: data.weights}
        state_files(files)
        return files

    def use(self, case: Case, folder: Path) -> str:
        """Open the bundle, encode and verify it; vectors may be any where nothing proved them."""
        with use.open_model(folder, self.device) as model:
            use.encode(model)
            nearest = self._cosine_to_probes(case.data.bundle, model)
        outcome = use.verify(folder, self.device)
        # Another engine than the export's verifications were made on is proven at its first start.
        if nearest is not None and nearest < _MIN_COSINE and (outcome == RESULT or self.device != "cpu"):
            raise Violation("vectors that were proven and are wrong", f"cosine {nearest:.4f} to the first probes")
        return outcome

    def _cosine_to_probes(self, bundle: str, model: Any) -> float | None:
        """Return the worst cosine to the vector of the shortest probe, which is among those that prove an engine."""
        probes = self.place.probes[bundle][0]
        if not isinstance(model, Embedder) or probes.route is not None:
            return None
        position = int(np.argsort(probes.token_counts, kind="stable")[0])
        reference = probes.vectors[position]
        vector = model.encode([probes.texts[position]], prompt=probes.prompt)[0]  # type: ignore[list-item]
        return float(vector @ reference / max(1e-30, np.linalg.norm(vector) * np.linalg.norm(reference)))


def _mutate_weights(data: MutatedGraph, random: random.Random) -> str:
    """Change a value of a tensor in the file of weights: of the small ones as often as of the large ones."""
    places = data.places
    if not places or random.random() < 0.2:
        data.weights, done = mutate_bytes(data.weights, random)
        return f"{_DATA}: {done}"
    offset, length, integers = random.choice(places)
    at = offset + random.randrange(max(1, length // 8)) * 8
    value = random.choice(_HOSTILE_VALUES).to_bytes(8, "little", signed=True)
    if not integers:
        value = np.array([random.choice((np.nan, np.inf, 3e38, 0.0, -1e30))] * 2, "<f4").tobytes()
    # An earlier mutation may have cut the file.
    if random.random() < 0.3 and at < len(data.weights):
        value = bytes([data.weights[at] ^ 1 << random.randrange(8)]) + data.weights[at + 1 : at + 8]
    data.weights = data.weights[:at] + value + data.weights[at + 8 :]
    return f"{_DATA}: another value at byte {at}"


def _tensor_places(model: Message) -> list[tuple[int, int, bool]]:
    """Return offset, length and whether they are integers, of the tensors in the file of weights."""
    graph = model.first(MODEL_GRAPH)
    places = []
    for tensor in graph.children(GRAPH_INITIALIZER) if isinstance(graph, Message) else []:
        entries = {entry.text(1): entry.text(2) for entry in tensor.children(TENSOR_ENTRY)}
        if entries:
            places.append((int(entries.get("offset", 0)), int(entries["length"]), tensor.first(2) == 7))
    return places
