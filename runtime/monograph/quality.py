"""What was decided and measured of a bundle when it was exported.

The manifest has what was decided, which is the same at every export: its ``quality`` and ``compression``. What engines
measured differs in last bits from machine to machine, and is in measurements.json; older bundles have it in the
manifest, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

from monograph.fields import Fields

QualityLevel = Literal["lossless", "high", "fast"]
# From the least loss to the most. What each means for a task is in the task's ``loss_bounds``.
LEVELS: tuple[QualityLevel, ...] = ("lossless", "high", "fast")


@dataclass(frozen=True)
class Tolerance:
    """How far outputs may be from the reference: either by the cosine of vectors or by the difference of values.

    The other one is None. ``exact`` is true if nothing is rounded, so that only the order of float32 sums may differ.
    """

    max_abs_difference: float | None = None
    min_cosine: float | None = None
    exact: bool = True

    def __str__(self) -> str:
        if self.min_cosine is not None:
            return f"cosine >= {self.min_cosine}"
        return f"max abs difference <= {self.max_abs_difference:.2e}"

    def violation(self, deviation: Deviation) -> str:
        """Return in words how a deviation exceeds the tolerance, or "" if it does not. NaN exceeds it."""
        where = f"{deviation.case}, {deviation.worst_tokens} tokens"
        if self.min_cosine is not None:
            cosine = -1.0 if deviation.worst_cosine is None else deviation.worst_cosine
            return "" if cosine >= self.min_cosine else f"cosine {cosine:.6f} is below {self.min_cosine}, {where}"
        difference, allowed = deviation.max_abs_difference, self.max_abs_difference or 0.0
        return "" if difference <= allowed else f"max abs difference {difference:.2e} exceeds {allowed:.2e}, {where}"


@dataclass(frozen=True)
class Deviation:
    """How far the outputs are from the reference for one way of batching the probes.

    ``worst_tokens`` is the length of the probe with the largest difference. ``worst_cosine`` is None for scores, which
    have no direction.
    """

    case: str
    max_abs_difference: float
    worst_cosine: float | None
    worst_tokens: int


@dataclass(frozen=True)
class VerificationResult:
    """Whether a bundle matches its reference on an engine that computes in a type, and by how much it differs.

    ``version`` is the engine's version, ``probes`` the number of inputs compared. The difference and the cosine are the
    worst of all ``cases``, the ways of batching the probes. ``reason`` says why the bundle failed, "" if it passed.
    """

    engine: str
    version: str
    device: str
    compute_dtype: str
    passed: bool
    tolerance: Tolerance
    max_abs_difference: float
    worst_cosine: float | None
    probes: int
    reason: str
    cases: tuple[Deviation, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)

    def describe(self, reference: str) -> str:
        """Return the result as one line; ``reference`` is a description of what the bundle was compared with."""
        if self.passed:
            outcome = f"{'equal' if self.tolerance.exact else 'close'} to {reference}"
        else:
            outcome = f"WRONG: {self.reason}"
        cosine = "" if self.worst_cosine is None else f", worst cosine {self.worst_cosine:.6f}"
        return (
            f"{self.device} ({self.engine} {self.version}) {self.compute_dtype}: {outcome}, "
            f"max abs difference {self.max_abs_difference:.1e}{cosine} over {self.probes} probes"
        )


class Agreement(Protocol):
    """How closely a compressed model's outputs agree with the original's; each task has its own dataclass."""

    def describe(self) -> str:
        """Return the figures in words."""
        ...


@dataclass(frozen=True)
class LayersReport:
    """How the layers were compressed.

    ``calibration`` describes the texts or pairs that set the ranges of int8 layers (None for float16), and
    ``calibration_inputs`` is their number. ``reduce_range`` tells whether weights have 7 bits; ``token_ranges`` names
    the layers whose input is rounded relative to each token's maximum. The others are of bundles of earlier versions:
    ``float32_inputs`` names layers whose input stays float32, ``smoothing_strength`` maps the other layers to
    SmoothQuant's strength, and ``calibration_agreement`` holds the figures of the agreement over the calibration
    inputs, which are measured.
    """

    precision: str
    calibration: str | None = None
    calibration_inputs: int = 0
    calibration_agreement: dict[str, float] = field(default_factory=dict)
    float32_inputs: tuple[str, ...] = ()
    smoothing_strength: dict[str, float] = field(default_factory=dict)
    reduce_range: bool = False
    token_ranges: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompressionReport:
    """What was compressed, the limits set for the loss, and the loss measured on held-out texts.

    ``table`` is the precision of the token embeddings; ``layers`` is None if only the table was compressed.
    ``agreement`` is None in a bundle without its measurements.
    """

    table: str
    limits: dict[str, float]
    agreement: Agreement | None
    layers: LayersReport | None = None

    @property
    def figures(self) -> Mapping[str, Any]:
        """The stated loss, by figure: what was measured, or without measurements the limits of the export."""
        return self.limits if self.agreement is None else vars(self.agreement)

    def without_measurements(self) -> CompressionReport:
        """Return the report with nothing but what was decided."""
        layers = None if self.layers is None else replace(self.layers, calibration_agreement={})
        return replace(self, agreement=None, layers=layers)

    def describe(self) -> str:
        """Return the report as one line."""
        done = [f"table {self.table}"]
        if self.layers is not None:
            done.append(f"layers {self.layers.precision}")
            if floats := len(self.layers.float32_inputs):
                done.append(f"{floats} of them with float32 inputs")
            if by_token := len(self.layers.token_ranges):
                done.append(f"{by_token} of them with a range for each token")
            if self.layers.calibration:
                done.append(f"calibrated with {self.layers.calibration}")
        line = ", ".join(done)
        return line if self.agreement is None else f"{line}; on ONNX Runtime, {self.agreement.describe()}"


@dataclass(frozen=True)
class CoverageReport:
    """How a pruned vocabulary tokenizes other texts.

    ``unchanged`` is the share of texts tokenized as before, ``growth`` the factor by which the number of tokens grew,
    ``unknown`` and ``unknown_before`` are the shares of unknown tokens after and before pruning.
    """

    name: str
    texts: int
    unchanged: float
    unknown_before: float
    unknown: float
    growth: float

    def describe(self) -> str:
        """Return the report in words."""
        return (
            f"of {self.texts:,} texts of {self.name}, {self.unchanged:.1%} are tokenized as before, into "
            f"{self.growth:.2f} times as many tokens in all, {self.unknown:.2%} of them unknown "
            f"({self.unknown_before:.2%} before)"
        )


@dataclass(frozen=True)
class VocabularyReport:
    """Which tokens a pruned vocabulary retains (``tokens`` of ``original_tokens``), and how this was checked.

    ``same_tokens`` texts are tokenized as before, and the vectors of ``same_vectors`` of them differ by at most
    ``max_abs_difference``. ``corpus`` names the texts whose tokens are retained, ``scripts`` the scripts of which all
    tokens are retained, ``character_scripts`` those of which single characters are retained (ISO 15924 codes).
    """

    tokens: int
    original_tokens: int
    corpus: str | None
    scripts: tuple[str, ...]
    character_scripts: tuple[str, ...]
    same_tokens: int
    same_vectors: int
    max_abs_difference: float
    coverage: CoverageReport | None = None

    def describe(self) -> str:
        """Return the report as one line."""
        parts = [f"those that the texts of {self.corpus} need"] if self.corpus else []
        parts += [f"those of {', '.join(self.scripts)}"] if self.scripts else []
        parts.append(f"single characters of {', '.join(self.character_scripts) or 'no script'}")
        line = (
            f"{self.tokens:,} of {self.original_tokens:,} tokens kept: {', '.join(parts)}; {self.same_tokens:,} texts "
            f"are tokenized as before, and the vectors of {self.same_vectors} of them differ by "
            f"{self.max_abs_difference:.1e} at most"
        )
        return line if self.coverage is None else f"{line}; {self.coverage.describe()}"


@dataclass(frozen=True)
class Measurements:
    """What engines measured of the graphs of one precision at the export.

    ``agreement`` and ``calibration_agreement`` are those of a compressed model.
    """

    verifications: tuple[VerificationResult, ...]
    not_run: dict[str, str] = field(default_factory=dict)
    agreement: Agreement | None = None
    calibration_agreement: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the measurements as JSON values, without figures of outputs that the graphs do not have."""
        values = asdict(self)
        if values["agreement"] is not None:
            values["agreement"] = {name: value for name, value in values["agreement"].items() if value is not None}
        return values


@dataclass(frozen=True)
class Quality:
    """Everything that was decided and measured of a bundle, or of its graphs of one precision.

    ``reference`` describes what computed the probes' outputs; ``encoder_file`` is the name of the ONNX file that the
    encoder came from, None if the model was traced. ``verifications`` has a result for each engine and compute dtype;
    ``not_run`` says why a device, or a device and type, could not be verified. Both are empty in a bundle without its
    measurements.
    """

    reference: str
    verifications: tuple[VerificationResult, ...]
    not_run: dict[str, str] = field(default_factory=dict)
    compression: CompressionReport | None = None
    vocabulary: VocabularyReport | None = None
    encoder_file: str | None = None

    @property
    def reference_name(self) -> str:
        """A short name of what the vectors were compared with."""
        if self.encoder_file is not None:
            return f"{self.encoder_file} with its modules in NumPy"
        return "torch" if self.compression is None else "torch with the same rounding"

    def without_measurements(self) -> Quality:
        """Return nothing but what was decided."""
        compression = None if self.compression is None else self.compression.without_measurements()
        return replace(self, verifications=(), not_run={}, compression=compression)

    def with_measurements(self, measured: Measurements) -> Quality:
        """Return what was decided, with these measurements."""
        compression = self.compression
        if compression is not None:
            layers = compression.layers
            if layers is not None:
                layers = replace(layers, calibration_agreement=measured.calibration_agreement)
            compression = replace(compression, agreement=measured.agreement, layers=layers)
        return replace(self, verifications=measured.verifications, not_run=measured.not_run, compression=compression)

    @property
    def measurements(self) -> Measurements:
        """What was measured."""
        compression = self.compression
        layers = None if compression is None else compression.layers
        return Measurements(
            self.verifications,
            self.not_run,
            agreement=None if compression is None else compression.agreement,
            calibration_agreement={} if layers is None else layers.calibration_agreement,
        )


@dataclass(frozen=True)
class FurtherPrecision:
    """What a bundle has of a precision after its first, beside graphs: the file of their probes, and their quality."""

    probes: str
    quality: Quality


def read_quality(top: Fields, agreement_type: type[Agreement] | None) -> Quality:
    """Read the manifest's ``quality`` and ``compression``.

    ``agreement_type`` is the dataclass that the bundle's task compares by, None for a task that is not known.
    """
    fields, compression = top.child("quality"), None
    if top.has("compression"):
        compression = top.child("compression").read(CompressionReport, agreement=None)
    elif agreement_type is not None and fields.has("compression"):
        report = fields.child("compression")
        compression = report.read(CompressionReport, agreement=report.child("agreement").read(agreement_type))
    return fields.read(Quality, compression=compression)


def read_measurements(fields: Fields, agreement_type: type[Agreement]) -> Measurements:
    """Read the content of measurements.json of a task that compares by ``agreement_type``."""
    agreement = fields.child("agreement").read(agreement_type) if fields.has("agreement") else None
    return fields.read(Measurements, agreement=agreement)


def read_further_precisions(top: Fields, agreement_type: type[Agreement] | None) -> dict[str, FurtherPrecision]:
    """Read the manifest's ``further_precisions``, each with its own ``quality`` and ``compression``."""
    return {
        name: FurtherPrecision(fields.need("probes", str), read_quality(fields, agreement_type))
        for name, fields in top.entries("further_precisions")
    }
