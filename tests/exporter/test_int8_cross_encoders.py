"""Cross-encoders with int8 layers: what is calibrated and with which pairs, what is refused, what is written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from sentence_transformers.base.model import BaseModel

from monograph import ExportError
from monograph_export import export
from monograph_export.checkpoint.checkpoint import read_checkpoint
from monograph_export.compression.activation_stats import collect_activation_stats
from monograph_export.compression.compress import Compressed, compress
from monograph_export.compression.gate import Gate
from monograph_export.compression.options import (
    CompressionOptions,
    Limits,
    RequestedLimits,
)
from monograph_export.compression.texts import Calibration, read_calibration
from monograph_export.tasks.rerank import RERANK_EXPORT, built_in_pairs, pairs_of
from support.command import assert_error, monograph, monograph_after_imports
from support.cross_encoders import save_classifier

# Of each, what is given one row a pair: a pooler that is the encoder's or the classifier's, and what follows it.
HEADS = {
    "BERT": {"bert.pooler.dense", "classifier"},
    "RoBERTa": {"classifier.dense", "classifier.out_proj"},
    "DeBERTa-v2": {"pooler.dense", "classifier"},
    "ModernBERT": {"head.dense", "classifier"},
}


@pytest.fixture(scope="module")
def bundle(tiny_cross_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("int8-cross") / "bundle"
    done = monograph_after_imports("export", tiny_cross_checkpoint, output, "--precision", "int8", "--reduce-range")
    assert done.returncode == 0, done.stderr
    assert "compressed: table int8, layers int8, calibrated with pairs of built-in sentences" in done.stdout.decode()
    return output


def load(folder: Path) -> Any:
    return RERANK_EXPORT.load(read_checkpoint(folder)).main


def limits_of(*bounds: float) -> Limits:
    return Limits(dict(zip(RERANK_EXPORT.limits, bounds, strict=True)))


def compress_within(
    model: BaseModel, options: CompressionOptions, inputs: Calibration[tuple[str, str]], limits: Limits
) -> Compressed[tuple[str, str]] | None:
    return compress(model, options, inputs, Gate(RERANK_EXPORT, limits, inputs.held_out))


def written(folder: Path, *lines: str) -> Path:
    file = folder / "pairs.tsv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_a_bundle_says_what_was_done_and_what_it_cost(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["graphs"][0]["precision"] == "int8"
    compression = manifest["compression"]
    assert compression["table"] == "int8"
    assert compression["limits"] == {"spearman": 0.99, "worst_difference": 0.25}
    layers = compression["layers"]
    assert (layers["precision"], layers["reduce_range"], layers["calibration_inputs"]) == ("int8", True, 360)
    agreement = json.loads((bundle / "measurements.json").read_text())["agreement"]
    assert agreement["pairs"] == 360
    assert agreement["spearman"] >= 0.99
    assert 0 < agreement["mean_difference"] <= agreement["worst_difference"] <= 0.1
    printed = monograph("info", bundle).stdout.decode()
    for words in (
        "int8, opset 23",
        "layers int8, calibrated with pairs of",
        "rank correlation of scores",
        "over 360 held-out pairs",
    ):
        assert words in printed


def test_layers_are_int8_and_the_head_is_not(bundle: Path, tiny_cross_bundle: Path) -> None:
    graph = onnx.load(bundle / "model.onnx", load_external_data=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    int8 = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    # The table, and the six layers of one of BERT's.
    assert len(int8) == 7
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    of_head = [shapes[name] for node in products for name in node.input if name in shapes and name not in int8]
    assert {*of_head} >= {(32, 32)}
    weights = [onnx.numpy_helper.to_array(tensor) for name, tensor in int8.items() if shapes[name][0] < 100]
    assert max(int(abs(weight.astype(int)).max()) for weight in weights) == 63
    before, after = (folder / "model.onnx.data" for folder in (tiny_cross_bundle, bundle))
    # A quarter, where tables of positions and a head of 32 dimensions were not a large part of what is left.
    assert after.stat().st_size < 0.45 * before.stat().st_size


@pytest.mark.parametrize("architecture", HEADS)
def test_what_is_computed_once_a_pair_is_the_head(architecture: str, tmp_path: Path) -> None:
    model = load(save_classifier(architecture, tmp_path / "model"))
    stats = collect_activation_stats(
        model, [("a boat", "two boats lie in the harbour"), ("a boat", "rain")], RERANK_EXPORT.feature
    )
    names = {name for group in stats for name in group.names}
    linear = {name for name, module in model[0].auto_model.named_modules() if type(module).__name__ == "Linear"}
    assert linear - names == HEADS[architecture]


@pytest.mark.slow
def test_limits_that_are_too_strict_name_the_costliest_layers(tmp_path: Path) -> None:
    # Without a default prompt, of which sentence-transformers warns.
    checkpoint = save_classifier("BERT", tmp_path / "model")
    done = monograph_after_imports(
        "export", checkpoint, tmp_path / "bundle", "--precision", "int8", "--max-score-move", "0.0001"
    )
    words = (
        "too far from the original: a score moves by",
        "above 0.01%; the layers that cost most",
        "encoder.layer.0.",
    )
    assert_error(done, 1, *words, "calibrate with pairs nearer to those that will be scored")
    assert not (tmp_path / "bundle").exists()
    model = load(checkpoint)
    with pytest.raises(ExportError, match=r"rank correlation 0\.99\d\d is below 1\.1; .* by itself: bert\.encoder\."):
        compress_within(model, CompressionOptions("int8"), built_in_pairs(), limits_of(1.1, 1))


def test_pairs_to_calibrate_with_are_not_held_out(tmp_path: Path) -> None:
    built_in = built_in_pairs()
    assert len(built_in.calibration) == len(built_in.held_out) == 360
    texts = [{text for pair in pairs for text in pair} for pairs in (built_in.calibration, built_in.held_out)]
    assert not texts[0] & texts[1]
    lines = [f"query {n // 3}\tpassage {n % 150}" for n in range(300)]
    own = pairs_of(read_calibration(written(tmp_path, *lines, "", *lines)))
    assert len(own.calibration) == 150
    # A query is of one part only.
    assert not {query for query, _ in own.calibration} & {query for query, _ in own.held_out}
    assert {*built_in.held_out} < {*own.held_out}
    assert own.origin == "150 of the 300 different pairs of pairs.tsv"
    one = pairs_of(read_calibration(written(tmp_path, "query\tpassage")))
    assert (one.calibration, one.held_out) == ((("query", "passage"),), built_in.held_out)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a query\ta passage", "", "a text alone"], "pairs.tsv line 3 has 0 tabs"),
        (["a query\ta passage\t1.0"], "pairs.tsv line 1 has 2 tabs"),
        (["a query\ta passage", "\ta passage"], "pairs.tsv line 2 has an empty text"),
        (["a query\t "], "each line must be a query, a tab and a passage"),
        ([" ", ""], "pairs.tsv has no text"),
    ],
)
def test_a_line_that_is_no_pair_is_named(
    lines: list[str], words: str, tiny_cross_checkpoint: Path, tmp_path: Path
) -> None:
    file = written(tmp_path, *lines)
    with pytest.raises(ExportError) as caught:
        export(tiny_cross_checkpoint, tmp_path / "bundle", precision="int8", calibration=file)
    assert words in str(caught.value)


@pytest.mark.slow
def test_pairs_of_a_file_calibrate(tiny_cross_checkpoint: Path, tmp_path: Path) -> None:
    pairs = pairs_of(read_calibration(written(tmp_path, *("\t".join(pair) for pair in built_in_pairs().calibration))))
    model = load(tiny_cross_checkpoint)
    defaults = RequestedLimits({}, "int8").of(RERANK_EXPORT.limits)
    compressed = compress_within(model, CompressionOptions("int8"), pairs, defaults)
    assert compressed is not None
    assert compressed.layers is not None
    assert str(compressed.layers.calibration).endswith("of the 360 different pairs of pairs.tsv")
    few = pairs_of(read_calibration(written(tmp_path, "query\tpassage")))
    with pytest.raises(ExportError, match="give a few hundred pairs of the kind that will be scored"):
        compress_within(load(tiny_cross_checkpoint), CompressionOptions("int8"), few, limits_of(1, 0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_rank_correlation": 0.9}, "--min-rank-correlation: leave it out"),
        ({"max_score_move": 0.2, "precision": "int8"}, "--max-score-move: leave it out"),
    ],
    ids=str,
)
def test_limits_of_scores_are_for_cross_encoders(
    options: dict[str, Any], words: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="this is an embedding model, which has no") as caught:
        export(tiny_checkpoint, tmp_path / "bundle", **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_rank_correlation": 1.5}, "the rank correlation must lie between -1 and 1, got 1.5"),
        ({"min_rank_correlation": float("nan")}, "the rank correlation must lie between -1 and 1, got nan"),
        ({"max_score_move": -0.1}, "a score's move is relative to the spread of all scores"),
        ({"max_score_move": float("nan")}, "0 or more, got nan"),
    ],
    ids=str,
)
def test_limits_that_no_scores_have_are_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export("anything", tmp_path / "bundle", **options)
    assert words in str(caught.value)
