"""Compression step by step, on models so small that each can be checked by arithmetic."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.model import BaseModel
from torch import nn

from monograph import Embedder
from monograph.engines import dtypes_of
from monograph.engines.onnxruntime import session_options
from monograph.errors import DeviceError, ExportError
from monograph.tasks.embedding import VectorAgreement
from monograph_export import export
from monograph_export.compression.activation_stats import ActivationStats, collect_activation_stats
from monograph_export.compression.compress import Compressed, compress
from monograph_export.compression.gate import Gate
from monograph_export.compression.gptq import round_weight
from monograph_export.compression.int8 import (
    REDUCED_WEIGHT_LEVELS,
    WEIGHT_LEVELS,
    Int8Linear,
    Int8Table,
    Range,
    fake_quantize,
    quantize_rows,
)
from monograph_export.compression.layers import int8_layers
from monograph_export.compression.options import (
    CompressionOptions,
    Limits,
    RequestedLimits,
)
from monograph_export.compression.smoothquant import PER_TOKEN_SHARE, RoundingNoise, fit, per_token_range
from monograph_export.compression.texts import Calibration, built_in_texts, read_calibration, texts_of
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from support.command import monograph, monograph_after_imports
from support.cpu_features import needs_exact_int8

DEFAULT_LIMITS = RequestedLimits({}, "int8").of(EMBEDDING_EXPORT.limits)
OPEN = ("--min-mean-cosine", "0", "--min-worst-cosine", "-1", "--min-neighbour-agreement", "0")


def limits_of(*bounds: float) -> Limits:
    return Limits(dict(zip(EMBEDDING_EXPORT.limits, bounds, strict=True)))


def compress_within(
    model: BaseModel, options: CompressionOptions, inputs: Calibration[str], limits: Limits
) -> Compressed[str] | None:
    return compress(model, options, inputs, Gate(EMBEDDING_EXPORT, limits, inputs.held_out))


@pytest.fixture(scope="module")
def int8_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tiny-int8") / "bundle"
    done = monograph_after_imports("export", tiny_checkpoint, output, "--precision", "int8", *OPEN)
    assert done.returncode == 0, done.stderr
    assert "compressed: table int8, layers int8" in done.stdout.decode()
    return output


def test_rows_are_rounded_to_half_a_step_of_their_own() -> None:
    rows = torch.randn(50, 16) * torch.logspace(-6, 3, 50)[:, None]
    levels, scale = quantize_rows(rows)
    assert levels.dtype == torch.int8
    assert int(levels.abs().amax(dim=1).min()) == 127
    assert bool(((levels * scale - rows).abs() <= scale / 2 * 1.001).all())
    assert int(quantize_rows(rows, REDUCED_WEIGHT_LEVELS)[0].abs().amax()) == 63
    zeros, scale = quantize_rows(torch.zeros(2, 4))
    assert not zeros.any()
    assert scale.isfinite().all()


@pytest.mark.parametrize("limits", [Range(-1, 3), Range(0, 3), Range(-2, 0), Range(0, 0)])
def test_zero_is_a_level_of_every_range(limits: Range) -> None:
    assert fake_quantize(torch.zeros(3), limits).tolist() == [0, 0, 0]
    values = torch.linspace(limits.low, limits.high, 100)
    assert float((fake_quantize(values, limits) - values).abs().max()) <= limits.scale * 1.001


def test_a_table_gathers_what_its_rows_were() -> None:
    table = nn.Embedding(100, 24).requires_grad_(False)
    ids = torch.randint(0, 100, (3, 7))
    before, after = table(ids), Int8Table(table)(ids)
    cosines = nn.functional.cosine_similarity(before, after, dim=-1)
    assert float(1 - cosines.min()) <= 2e-4


@pytest.mark.parametrize("limits", [None, Range(-4, 4), pytest.param(Range(-1, 1, floor=2.0), marks=needs_exact_int8)])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_layer_is_traced_as_it_computes(limits: Range | None, smooth: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = Int8Linear(nn.Linear(24, 16), limits, torch.rand(24) + 0.5 if smooth else None).eval()
    values = torch.randn(2, 5, 24)
    program = torch.onnx.export(layer, (values,), dynamo=True, opset_version=23, verbose=False)
    assert program is not None
    program.save(tmp_path / "layer.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "layer.onnx"), session_options(onnxruntime, 1))
    [outputs] = session.run(None, {session.get_inputs()[0].name: values.numpy()})
    assert np.abs(outputs - layer(values).detach().numpy()).max() <= 1e-5


def stats_of(rows: torch.Tensor) -> ActivationStats:
    return ActivationStats(("layer",), rows.amin(dim=0), rows.amax(dim=0), rows)


def relative_error(linear: nn.Linear, layer: nn.Module, rows: torch.Tensor) -> float:
    expected = linear(rows)
    return float(((layer(rows) - expected).square().mean() / expected.var()).sqrt().detach())


def test_smoothing_holds_for_texts_that_did_not_set_it() -> None:
    """With outlier channels of either skew, the learned factors beat none on rows that they have not seen."""
    torch.manual_seed(0)
    scale = torch.ones(32)
    scale[3], scale[5] = 60, -30
    known, unknown = ((torch.randn(512, 32).abs() + 0.1 * torch.randn(512, 32)) * scale for _ in range(2))
    linear = nn.Linear(32, 16)
    smoothing = fit([linear], stats_of(known))
    assert (smoothing.smoothing < 0).nonzero().flatten().tolist() == [5]
    assert -smoothing.limits.low < smoothing.limits.high / 2
    learned = int8_layers({"layer": linear}, stats_of(known), WEIGHT_LEVELS)["layer"]
    plain = Int8Linear(linear, Range(float(known.min()), float(known.max())), None)
    assert relative_error(linear, learned, unknown) < 0.01
    assert relative_error(linear, learned, unknown) < relative_error(linear, plain, unknown) / 3


def gelu_outputs(tokens: int) -> torch.Tensor:
    """Return inputs as of a second feed-forward layer, of which one token in fifty is 20 times as large."""
    sizes = torch.where(torch.arange(tokens) % 50 == 0, 20.0, 1.0)
    return nn.functional.gelu(torch.randn(tokens, 32) * sizes[:, None])


def test_a_range_relative_to_the_token_rounds_small_tokens_in_small_steps() -> None:
    torch.manual_seed(0)
    known, unknown = gelu_outputs(1000), gelu_outputs(1000)
    linear = nn.Linear(32, 16)
    assert fit([linear], stats_of(known)).limits.floor is None
    smoothing = fit([linear], stats_of(known), token_ranges=True)
    assert smoothing.limits.floor is not None
    layer = int8_layers({"layer": linear}, stats_of(known), WEIGHT_LEVELS, token_ranges=True)["layer"]
    small = unknown[torch.arange(1000) % 50 != 0]
    static = Int8Linear(linear, Range(float(known.min()), float(known.max())), None)
    assert relative_error(linear, layer, small) < relative_error(linear, static, small) / 4
    # No token is clipped, however large.
    assert relative_error(linear, layer, 100 * unknown) < 0.02
    zeros = torch.zeros(1, 32)
    assert torch.equal(fake_quantize(zeros, smoothing.limits), zeros)


def test_a_range_is_relative_to_the_token_where_that_leaves_little_noise() -> None:
    alike = torch.full((100,), 3.0, dtype=torch.float64)
    static = Range(-1, 10)
    relative, share = per_token_range(static, alike)
    assert share <= PER_TOKEN_SHARE
    assert relative.floor is not None
    # A token of zeros has all of the lower end in reach.
    assert relative.low * relative.floor == pytest.approx(static.low)
    assert relative.high == 1
    # With a lower end as far from zero as the upper one, or tokens as large as the range, it gains less.
    assert per_token_range(Range(-10, 10), 2 * alike)[1] > PER_TOKEN_SHARE
    assert per_token_range(static, 3 * alike)[1] > PER_TOKEN_SHARE
    skewed = torch.randn(500, 32).abs()
    assert fit([nn.Linear(32, 16)], stats_of(skewed - skewed.mean()), token_ranges=True).limits.floor is None


def test_optimized_factors_are_a_minimum_of_the_rounding_noise() -> None:
    torch.manual_seed(0)
    weight = torch.rand(12, 8, dtype=torch.float64)
    # As an output that a pruned head has.
    weight[3] = 0
    below, above, variance = torch.rand(3, 8, dtype=torch.float64)
    noise = RoundingNoise(weight, below, above, variance, WEIGHT_LEVELS)
    logs = noise.minimize().log()
    steps = [sign * 0.05 * step for step in torch.eye(8, dtype=torch.float64) for sign in (1, -1)]
    assert min(noise.logarithm(logs + step) for step in steps) > noise.logarithm(logs)


@pytest.mark.parametrize("levels", [WEIGHT_LEVELS, REDUCED_WEIGHT_LEVELS])
def test_rounding_errors_of_correlated_channels_make_up_for_each_other(levels: int) -> None:
    torch.manual_seed(0)
    # More channels than a block, of far fewer causes.
    inputs = torch.randn(2000, 20) @ torch.randn(20, 200) + 0.3 * torch.randn(2000, 200)
    weight = torch.randn(24, 200)
    rounded, scale = round_weight(weight, inputs, levels)
    nearest, _ = quantize_rows(weight, levels)
    assert rounded.dtype == torch.int8
    assert int(rounded.abs().amax()) <= levels
    moved, moved_nearest = (((of * scale - weight) @ inputs.t()).var() for of in (rounded, nearest))
    assert float(moved) < 0.3 * float(moved_nearest)


def test_without_variance_weights_are_rounded_to_the_nearest() -> None:
    weight = torch.randn(4, 8)
    assert torch.equal(round_weight(weight, torch.ones(10, 8))[0], quantize_rows(weight)[0])


def test_activation_stats_are_those_of_the_layers_inputs(tiny_checkpoint: Path) -> None:
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    texts = ["one text", "another, longer text", "a third"]
    stats = collect_activation_stats(model, texts, EMBEDDING_EXPORT.feature)
    names = [group.names for group in stats]
    assert names[0] == tuple(f"encoder.layer.0.attention.self.{part}" for part in ("query", "key", "value"))
    # The pooler, which sentence vectors do not use, is none of them.
    assert len(names) == 4
    given = [model.preprocess([text]) for text in texts]
    embedded = [model[0].auto_model.embeddings(text["input_ids"], text["token_type_ids"])[0] for text in given]
    assert torch.equal(stats[0].high, torch.cat(embedded).amax(dim=0))


class TwiceThrough(nn.Module):
    """A model of one layer that is called twice, once by keyword, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.auto_model = nn.ModuleDict({"shared": nn.Linear(4, 4), "unused": nn.Linear(4, 4)})

    def __getitem__(self, _: int) -> nn.Module:
        return self

    def preprocess(self, texts: list[str]) -> dict[str, torch.Tensor]:
        return {"values": torch.full((1, 2, 4), float(len(texts[0])))}

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.auto_model["unused"](features["values"])
        once = self.auto_model["shared"](features["values"])
        return {"sentence_embedding": self.auto_model["shared"](input=100 + once.abs()).mean(dim=1)}


def test_a_layer_that_is_called_twice_is_seen_twice() -> None:
    [stats] = collect_activation_stats(TwiceThrough(), ["a", "longer", "b", "c"], EMBEDDING_EXPORT.feature)
    assert stats.names == ("shared",)
    assert float(stats.low.min()) == 1
    assert float(stats.high.min()) >= 100


def test_a_transformer_without_linear_layers_is_refused(tiny_checkpoint: Path) -> None:
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    model[0].auto_model.encoder.layer = nn.ModuleList()
    with pytest.raises(ExportError, match="no linear layer"):
        compress_within(model, CompressionOptions("int8"), built_in_texts(), DEFAULT_LIMITS)


def test_a_loss_beyond_the_limits_is_refused_with_the_costliest_layers(tiny_checkpoint: Path) -> None:
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu").requires_grad_(False)
    words = r"below 1\.1; the layers that cost most of the mean cosine, each by itself: encoder\.layer\."
    with pytest.raises(ExportError, match=words):
        compress_within(model, CompressionOptions("int8"), built_in_texts(), limits_of(1.1, -1, 0))


def test_agreement_is_what_its_words_say() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    same = EMBEDDING_EXPORT.agreement(vectors, 3 * vectors)
    assert (same.texts, round(same.mean_cosine, 6), round(same.worst_cosine, 6)) == (40, 1, 1)
    assert (round(same.spearman, 6), same.neighbour_agreement) == (1, 1)
    flipped = vectors.copy()
    flipped[0] *= -1
    other = EMBEDDING_EXPORT.agreement(vectors, flipped)
    assert round(other.worst_cosine, 6) == -1
    assert round(other.mean_cosine, 6) == round(38 / 40, 6)
    assert other.neighbour_agreement < 1
    assert DEFAULT_LIMITS.violations(same) == ()
    assert [line.rsplit(" ", 4)[0] for line in DEFAULT_LIMITS.violations(other)] == ["mean cosine", "worst cosine"]
    not_finite = EMBEDDING_EXPORT.agreement(vectors, np.full_like(vectors, np.nan))
    assert limits_of(0.9, 0.9, 0.9).violations(not_finite) != ()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_texts_that_are_too_few_or_all_alike_have_no_rank_correlation(count: int) -> None:
    alike = np.ones((count, 4), dtype=np.float32)
    agreement = EMBEDDING_EXPORT.agreement(alike, alike)
    assert agreement.spearman == 0
    json.dumps(asdict(agreement), allow_nan=False)


def test_texts_to_calibrate_with_are_not_held_out(tmp_path: Path) -> None:
    built_in = built_in_texts()
    assert (len(built_in.calibration), len(built_in.held_out)) == (706, 240)
    assert not {*built_in.calibration} & {*built_in.held_out}
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(f"text {n // 2}" for n in range(100)) + "\n\n")
    own = texts_of(read_calibration(file))
    assert len(own.calibration) == 25
    assert not {*own.calibration} & {*own.held_out}
    assert {*built_in.held_out} < {*own.held_out}
    assert "25 of the 50 different lines of texts.txt" in own.origin
    for content in (b"", b"\n \n", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(ExportError, match=r"texts\.txt"):
            read_calibration(file)


def test_texts_that_no_retained_token_can_write_are_not_held_out(tiny_checkpoint: Path) -> None:
    texts = built_in_texts().filtered(lambda texts: [text for text in texts if text.isascii()])
    assert all(text.isascii() for text in (*texts.calibration, *texts.held_out))
    assert texts.origin.startswith(
        f"{len(texts.calibration)} texts that the retained tokens write as before, of built-in"
    )
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    none = built_in_texts().filtered(lambda _: [])
    with pytest.raises(ExportError, match="give texts of these scripts with --keep-vocab FILE as well"):
        compress_within(model, CompressionOptions(table="int8"), none, DEFAULT_LIMITS)
    few = built_in_texts().filtered(lambda texts: list(texts[:3]))
    with pytest.raises(ExportError, match="give --calibration FILE with a few hundred texts"):
        compress_within(model, CompressionOptions("int8"), few, DEFAULT_LIMITS)


def test_an_int8_bundle_says_what_was_done_and_what_it_cost(int8_bundle: Path, tiny_bundle: Path) -> None:
    manifest = json.loads((int8_bundle / "manifest.json").read_text())
    assert manifest["graphs"][0]["precision"] == "int8"
    compression = manifest["compression"]
    assert compression["table"] == "int8"
    assert compression["layers"]["calibration_inputs"] == 706
    measured = json.loads((int8_bundle / "measurements.json").read_text())
    assert measured["agreement"]["texts"] == 240
    assert measured["agreement"]["mean_cosine"] > 0.98
    printed = monograph("info", int8_bundle).stdout.decode()
    for words in (
        "int8, opset 23",
        "mean cosine to the original",
        "same nearest neighbour",
        " MB: table",
    ):
        assert words in printed
    sizes = [sum(bundle_part.values()) for bundle_part in (manifest["graphs"][0]["parts"],)]
    assert sizes[0] <= (int8_bundle / "model.onnx.data").stat().st_size * 1.5
    assert (int8_bundle / "model.onnx.data").stat().st_size < 0.5 * (tiny_bundle / "model.onnx.data").stat().st_size


def test_an_int8_graph_has_standard_operators_of_unsigned_inputs_and_signed_weights(int8_bundle: Path) -> None:
    graph = onnx.load(int8_bundle / "model.onnx", load_external_data=False).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    rounded = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    # An input that layers share is rounded once: four a layer.
    assert len(rounded) == 4
    assert {types[node.input[2]] for node in rounded} == {onnx.TensorProto.UINT8}
    weights = [node.input[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in types]
    assert len(weights) == 6
    assert {types[name] for name in weights} == {onnx.TensorProto.INT8}


@pytest.mark.parametrize("device", ["cpu", "openvino", "auto"])
def test_every_engine_runs_it_at_float32_between_the_layers(int8_bundle: Path, device: str) -> None:
    texts = ["a boat", "", "two boats lie in the harbour " * 9, "палуба", "港"]
    with Embedder(int8_bundle, device) as model:
        assert model.compute_dtype == "float32"
        together = model.encode(texts)
        alone = np.stack([model.encode(text) for text in texts])
    assert np.abs(together - alone).max() <= 1e-5


@pytest.mark.skipif("bfloat16" not in dtypes_of("openvino"), reason="this CPU has no bfloat16")
def test_bfloat16_is_refused_for_an_int8_graph(int8_bundle: Path) -> None:
    with pytest.raises(DeviceError, match=r"computes an int8 graph in float32, not in bfloat16"):
        Embedder(int8_bundle, "openvino", "bfloat16")


@pytest.mark.slow
def test_a_table_alone_is_equal_to_torch_with_that_table(tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(tiny_checkpoint, tmp_path / "bundle", table="int8")
    assert bundle.manifest.graphs[0].precision == "fp32"
    [first, *_] = bundle.manifest.quality.verifications
    assert first.tolerance.exact
    compression = bundle.manifest.quality.compression
    assert compression is not None
    assert isinstance(compression.agreement, VectorAgreement)
    assert 1 - compression.agreement.worst_cosine <= 2e-4
    assert compression.layers is None
