"""Run a bundle's own acceptance test on this machine: its probes, alone, in ragged batches and as a call does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.batching import batch_cost
from monograph.bundle import Probes
from monograph.bundle.manifest import POOLING_MASK
from monograph.engines import Engine
from monograph.errors import BundleError
from monograph.pipeline import Pipeline
from monograph.routes import Routes
from monograph.tokenization import TokenizedTexts

# At float32: max abs difference <= this x max(1, largest |reference|).
FLOAT32_TOLERANCE = 1e-5
# At the narrower types the direction of a vector is what has to hold.
MIN_COSINE = {"bfloat16": 0.999, "float16": 0.999}
# The same for graphs that round by themselves. Engines come to the levels of an int8 graph by arithmetic of their own:
# a value between two goes either way.
MIN_COSINE_BY_PRECISION = {"fp16": 0.999, "int8": 0.99}
# At all of these scores of pairs, of which one alone has no direction: max abs difference <= this x max(1, largest
# |reference|). bfloat16 moved the logits of tiny models by up to 1.6e-2 of the largest.
SCORE_TOLERANCE = 5e-2
# The same for int8 graphs: a rounding that goes the other way turns others behind it, and most where a reranker decides
# between two answers. MiniLM-L6, trained for some minutes, differed by up to 0.22 for one pair on OpenVINO (0.028 on
# ONNX Runtime), with random weights by 0.052 (0.037); by 0.77 and more where padding mask or token types were left out.
SCORE_TOLERANCE_BY_PRECISION = {"int8": 0.5}
# Of the longest vector of the reference, what one may be long in place of zeros where an engine rounds.
_NEXT_TO_NOTHING = 1e-2
# Rows of the ragged batches: neighbours of very different length share one.
RAGGED_BATCH_ROWS = 16
# What such a batch may cost, so that verifying long texts needs no more memory than a small machine has.
RAGGED_BATCH_COST = 16_384


@dataclass(frozen=True)
class Deviation:
    """How far one way of running the probes is from the reference, and where it is worst.

    ``min_cosine`` is None for scores.
    """

    case: str
    max_abs_difference: float
    min_cosine: float | None
    worst_tokens: int


@dataclass(frozen=True)
class VerificationResult:
    """Whether a bundle is right on an engine, and by how much."""

    engine: str
    version: str
    device: str
    compute_dtype: str
    passed: bool
    tolerance: str
    max_abs_difference: float
    min_cosine: float | None
    probes: int
    reason: str
    cases: tuple[Deviation, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Finding:
    """What one set of probes showed: its cases, the difference allowed, and the first thing wrong, "" for nothing."""

    cases: tuple[Deviation, ...]
    allowed: float
    reason: str


def verify(routes: Routes, sets: Sequence[Probes], tolerance: float = FLOAT32_TOLERANCE) -> VerificationResult:
    """Compute every set of probes in every way that a caller's texts may be batched and compare with the reference.

    Raises:
        BundleError: the probes are of other routes, or of another number of columns, than the graphs.

    """
    findings = [_finding(_pipeline_of(routes, probes), probes, tolerance) for probes in _complete(routes, sets)]
    cases = tuple(case for finding in findings for case in finding.cases)
    allowed = max(finding.allowed for finding in findings)
    engine = routes.main.engine
    cosines = [case.min_cosine for case in cases if case.min_cosine is not None]
    reason = next((finding.reason for finding in findings if finding.reason), "")
    return VerificationResult(
        engine=engine.name,
        version=engine.version,
        device=engine.device,
        compute_dtype=engine.compute_dtype,
        passed=not reason,
        tolerance=_tolerance(routes.main, allowed),
        max_abs_difference=max(case.max_abs_difference for case in cases),
        min_cosine=min(cosines) if cosines else None,
        probes=sum(len(probes.texts) for probes in sets),
        reason=reason,
        cases=cases,
    )


def quick_failure(routes: Routes, sets: Sequence[Probes]) -> str:
    """Embed each probe alone and return what is wrong, "" for nothing.

    Raises:
        BundleError: the probes are of other routes, or of another number of columns, than the graphs.

    """
    for probes in _complete(routes, sets):
        pipeline = _pipeline_of(routes, probes)
        tokens = pipeline.tokenize(probes.texts, probes.prompt)
        case = _deviation(_named("alone", probes), _alone(pipeline, tokens), probes, pipeline)
        allowed = _allowed(pipeline, probes, FLOAT32_TOLERANCE)
        if reason := _reason(tokens, probes, (case,), allowed, _required_cosine(pipeline)):
            return reason
    return ""


def _complete(routes: Routes, sets: Sequence[Probes]) -> Sequence[Probes]:
    """Return the sets: of each route at least one, and one with a prompt where prompts are left out of the pooling."""
    needed = [(route, False) for route in routes.pipelines]
    needed += [(route, True) for route, found in routes.pipelines.items() if POOLING_MASK in found.input_names]
    known = {(probes.route, bool(probes.prompt)) for probes in sets}
    if missing := [key for key in needed if key not in known]:
        named = (
            f"no probes{' with a prompt' if prompted else ''}{'' if route is None else f' of the route {route!r}'}"
            for route, prompted in missing
        )
        raise BundleError("probes.json", list(named))
    return sets


def _pipeline_of(routes: Routes, probes: Probes) -> Pipeline:
    """Return what runs a set of probes."""
    if probes.route not in routes.pipelines:
        raise BundleError("probes.json", [f"probes of the route {probes.route!r}, which no graph has"])
    pipeline = routes.pipelines[probes.route]
    if probes.vectors.shape[1] != pipeline.output_width:
        raise BundleError(
            "probes.json", [f"{probes.vectors.shape[1]} dimensions, the graph gives {pipeline.output_width}"]
        )
    return pipeline


def _finding(pipeline: Pipeline, probes: Probes, tolerance: float) -> _Finding:
    tokens = pipeline.tokenize(probes.texts, probes.prompt)
    ways = _ways(pipeline, probes, tokens)
    cases = tuple(_deviation(_named(name, probes), vectors, probes, pipeline) for name, vectors in ways)
    allowed = _allowed(pipeline, probes, tolerance)
    return _Finding(cases, allowed, _reason(tokens, probes, cases, allowed, _required_cosine(pipeline)))


def _named(way: str, probes: Probes) -> str:
    """Return the name of a way of batching, with the route and whether there is a prompt."""
    named = way if probes.route is None else f"{probes.route}: {way}"
    return f"{named}, prompted" if probes.prompt else named


def _required_cosine(pipeline: Pipeline) -> float | None:
    """Return the cosine to the reference that is asked for, None where values are compared, as scores always are."""
    return None if pipeline.task == "rerank" else _cosine_of_rounding(pipeline.engine)


def _cosine_of_rounding(engine: Engine) -> float | None:
    """Return the cosine that is left where the graph or its products round, None where both are float32."""
    return MIN_COSINE_BY_PRECISION.get(engine.graph.precision, MIN_COSINE.get(engine.compute_dtype))


def _allowed(pipeline: Pipeline, probes: Probes, tolerance: float) -> float:
    """Return the difference of values that is allowed where values are compared."""
    if pipeline.task == "rerank" and _cosine_of_rounding(pipeline.engine) is not None:
        tolerance = SCORE_TOLERANCE_BY_PRECISION.get(pipeline.engine.graph.precision, SCORE_TOLERANCE)
    return tolerance * max(1.0, float(np.abs(probes.vectors).max(initial=0)))


def _tolerance(pipeline: Pipeline, allowed: float) -> str:
    """Return in words what is asked for."""
    if (least := _required_cosine(pipeline)) is not None:
        return f"cosine >= {least}"
    if _cosine_of_rounding(pipeline.engine) is not None:
        return f"scores within {allowed:.2e}"
    return f"max abs difference <= {allowed:.2e}"


def _reason(
    tokens: TokenizedTexts, probes: Probes, cases: Sequence[Deviation], allowed: float, required_cosine: float | None
) -> str:
    """Return the first thing that is wrong, "" where all is right."""
    return _wrong_tokens(tokens, probes) or next(
        (reason for case in cases if (reason := _too_far(case, allowed, required_cosine))), ""
    )


def _wrong_tokens(tokens: TokenizedTexts, probes: Probes) -> str:
    found = tokens.lengths
    differing = np.flatnonzero(found != np.array(probes.token_counts))
    if not len(differing):
        return ""
    first = int(differing[0])
    return f"probe {first} has {found[first]} tokens instead of {probes.token_counts[first]}"


def _too_far(case: Deviation, allowed: float, required_cosine: float | None) -> str:
    where = f"{case.case}, {case.worst_tokens} tokens"
    # Written so that NaN fails.
    if required_cosine is None:
        right = case.max_abs_difference <= allowed
        return "" if right else f"max abs difference {case.max_abs_difference:.2e} exceeds {allowed:.2e}, {where}"
    found = -1.0 if case.min_cosine is None else case.min_cosine
    return "" if found >= required_cosine else f"cosine {found:.6f} is below {required_cosine}, {where}"


def _ways(pipeline: Pipeline, probes: Probes, tokens: TokenizedTexts) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each way of batching the probes that the graph is run in, by name, with its vectors (float32 [n, d])."""
    yield "alone, unpadded", _alone(pipeline, tokens)
    shuffled = np.random.default_rng(0).permutation(np.arange(len(probes.texts), dtype=np.intp))
    rows = min(RAGGED_BATCH_ROWS, pipeline.engine.graph.max_batch_size or RAGGED_BATCH_ROWS)
    if rows > 1:
        # A fault at one width only shows in a batch of that width, so each length is the longest of one once.
        yield "beside a shorter text", _run(pipeline, tokens, _beside_shorter(shuffled, tokens.lengths))
        plan = list(_ragged(shuffled, probes.token_counts, rows))
        yield f"ragged batches of {rows}", _run(pipeline, tokens, plan)
    yield "batched by length", pipeline.outputs(probes.texts, prompt=probes.prompt)


def _alone(pipeline: Pipeline, tokens: TokenizedTexts) -> NDArray[np.float32]:
    return _run(pipeline, tokens, [np.array([position]) for position in range(len(tokens.lengths))])


def _beside_shorter(order: NDArray[np.intp], lengths: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Return batches of two: each probe in turn, and the next in the order that is no longer than it."""
    plan = []
    for place, probe in enumerate(order):
        others = np.concatenate([order[place + 1 :], order[:place]])
        shorter = others[lengths[others] <= lengths[probe]]
        plan.append(np.array([*shorter[:1], probe], dtype=np.intp))
    return plan


def _ragged(order: NDArray[np.intp], token_counts: Sequence[int], rows: int) -> Iterator[NDArray[np.intp]]:
    """Cut an order into batches of ``rows`` texts, of fewer where a long text makes them too dear."""
    start = 0
    while start < len(order):
        size = rows
        while (
            size > 2 and batch_cost(size, max(token_counts[i] for i in order[start : start + size])) > RAGGED_BATCH_COST
        ):
            size -= 1
        yield order[start : start + size]
        start += size


def _run(pipeline: Pipeline, tokens: TokenizedTexts, plan: list[NDArray[np.intp]]) -> NDArray[np.float32]:
    vectors = np.empty((len(tokens.lengths), pipeline.output_width), dtype=np.float32)
    for batch, output in pipeline.engine.stream(pipeline.batches(tokens, iter(plan))):
        vectors[batch.rows] = output
    return vectors


def _deviation(case: str, vectors: NDArray[np.float32], probes: Probes, pipeline: Pipeline) -> Deviation:
    differences = np.abs(vectors - probes.vectors).max(axis=1)
    # NaN compares as neither larger nor smaller, and must fail. Not infinity, which JSON has no number for.
    differences = np.where(np.isfinite(differences), differences, np.finfo(np.float32).max)
    least = None
    if pipeline.task != "rerank":
        least = float(np.nan_to_num(_cosines(vectors, probes.vectors), nan=-1.0).min())
    worst = int(np.argmax(differences))
    return Deviation(case, float(differences[worst]), least, probes.token_counts[worst])


def _cosines(found: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    norms = np.sqrt(_dots(found, found)), np.sqrt(_dots(reference, reference))
    cosines = _dots(found, reference) / np.maximum(norms[0] * norms[1], 1e-30)
    # A text without tokens is all zeros in a bag of embeddings, and one of no known word may be in a sparse encoder.
    # Zeros have no direction to be wrong, and what is next to nothing beside the others is as near.
    nothing = (norms[1] == 0) & (norms[0] <= _NEXT_TO_NOTHING * norms[1].max(initial=0))
    return np.where(nothing, 1.0, cosines)


def _dots(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the product of each row with the other's, summed in float64 and without copies of that: float64 [n]."""
    return np.asarray(np.einsum("nd,nd->n", first, second, dtype=np.float64))
