"""Run a bundle's own acceptance test on this machine: its probes, alone, in ragged batches and as a call does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.batching import batch_cost
from monograph.bundle import Probes, read_probes
from monograph.bundle.manifest import POOLING_MASK
from monograph.errors import BundleError, DeviceError, MonographError
from monograph.inference.pipeline import OutputError, Pipeline
from monograph.inference.routes import Routes
from monograph.progress import SILENT, Progress, Step
from monograph.quality import Deviation, Tolerance, VerificationResult
from monograph.tasks.base import FLOAT32_TOLERANCE, OutputPart, Outputs, Task
from monograph.tokenization import TokenizedTexts

# Rows of the ragged batches: neighbours of very different length share one.
RAGGED_BATCH_ROWS = 16
# What such a batch may cost, so that verifying long texts needs no more memory than a small machine has.
RAGGED_BATCH_COST = 16_384
# Longer texts would be felt at a first start.
QUICK_PROBE_TOKENS = 128
# What a case in which no input has a neighbour is called.
ALONE = "alone, unpadded"


class ProofError(DeviceError):
    """A device is wrong on a bundle's probes; or it ``ended`` the process that computed them, or took too long."""

    def __init__(self, message: str, *, ended: bool = False) -> None:
        super().__init__(message)
        self.ended = ended


def verify(
    routes: Routes, sets: Sequence[Probes], tolerance: float = FLOAT32_TOLERANCE, progress: Progress = SILENT
) -> VerificationResult:
    """Compute every set of probes in every way that a caller's texts may be batched and compare with the reference.

    ``tolerance`` is the max abs difference allowed at float32 for vectors of values up to 1. It is one step of
    ``progress``, which counts texts, or pairs, as often as they are computed.

    Raises:
        BundleError: the probes are of other routes, or of another number of columns, than the graphs.

    """
    comparisons = [_Comparison.of(routes, probes, tolerance) for probes in sets]
    _check_complete(routes, sets)
    engine = routes.main.engine
    with progress.step(
        f"Verifying on {engine.device} at {engine.compute_dtype}",
        sum(comparison.total for comparison in comparisons),
        routes.bundle.task.inputs,
    ) as step:
        for comparison in comparisons:
            comparison.run_all(step)
    cases = tuple(case for comparison in comparisons for _, case in comparison.cases)
    tolerances = [tolerance for comparison in comparisons for tolerance in comparison.tolerances.values()]
    cosines = [case.worst_cosine for case in cases if case.worst_cosine is not None]
    reason = next((reason for comparison in comparisons if (reason := comparison.failure())), "")
    return VerificationResult(
        engine=engine.name,
        version=engine.version,
        device=engine.device,
        compute_dtype=engine.compute_dtype,
        passed=not reason,
        # Where vectors are compared by their cosines, not the one of weights.
        tolerance=max(tolerances, key=lambda one: (one.min_cosine is not None, one.max_abs_difference or 0.0)),
        max_abs_difference=max(case.max_abs_difference for case in cases),
        worst_cosine=min(cosines) if cosines else None,
        probes=sum(len(probes.texts) for probes in sets),
        reason=reason,
        cases=cases,
    )


def quick_failure(routes: Routes) -> str:
    """Compute a few of the bundle's probes, each alone and all in a batch, and return what is wrong, "" for nothing."""
    bundle = routes.bundle
    try:
        sets = read_probes(bundle.path, bundle.manifest.output_width, bundle.probes_file)
        _check_complete(routes, sets)
        for probes in sets:
            comparison = _Comparison.of(routes, _few(probes), FLOAT32_TOLERANCE)
            comparison.run_alone()
            comparison.run_together()
            if reason := comparison.failure():
                return reason
    except MonographError as error:
        # An engine that loads a graph and cannot run it is no better than one that cannot load it.
        return str(error)
    return ""


def wrong_on_probes(device: str, compute_dtype: str, failure: str) -> str:
    """Return the error message for a device that is wrong on a bundle's probes."""
    return (
        f"{device} at {compute_dtype} fails on the bundle's probes ({failure}): choose another device or compute_dtype"
    )


def _few(probes: Probes) -> Probes:
    """Return the shortest probe, one between, and the longest that is quick."""
    order = sorted(range(len(probes.texts)), key=lambda i: probes.token_counts[i])
    quick = [i for i in order if probes.token_counts[i] <= QUICK_PROBE_TOKENS] or order[:1]
    chosen = sorted({quick[0], quick[len(quick) // 2], quick[-1]})
    return replace(
        probes,
        texts=tuple(probes.texts[i] for i in chosen),
        token_counts=tuple(probes.token_counts[i] for i in chosen),
        vectors=probes.vectors[chosen],
    )


def _check_complete(routes: Routes, sets: Sequence[Probes]) -> None:
    """Require a set of each route, and one with a prompt where prompts are left out of the pooling."""
    needed = [(route, False) for route in routes.pipelines]
    needed += [(route, True) for route, one in routes.pipelines.items() if POOLING_MASK in one.runner.input_names]
    known = {(probes.route, bool(probes.prompt)) for probes in sets if probes.output is None}
    missing = [
        f"no probes{' with a prompt' if prompted else ''}{'' if route is None else f' of the route {route!r}'}"
        for route, prompted in needed
        if (route, prompted) not in known
    ]
    outputs = {(probes.route, probes.output) for probes in sets}
    missing += [
        f"no probes of the output {output!r}"
        for output, pipelines in routes.additional_pipelines.items()
        if not {(route, output) for route in pipelines} <= outputs
    ]
    if missing:
        raise BundleError(routes.bundle.path, missing)


@dataclass
class _Comparison:
    """One set of probes through its pipeline, and how far the outputs are from the reference, case by case.

    ``tolerances`` are what is allowed of each part of the output, by its name; ``cases`` have the part's name each.
    ``plans`` are the ways of batching the probes, by case, but for the last, which the pipeline plans itself.
    """

    task: Task[Any]
    section: Any
    pipeline: Pipeline
    probes: Probes
    tokens: TokenizedTexts
    tolerances: Mapping[str, Tolerance]
    cases: list[tuple[str, Deviation]]
    plans: Mapping[str, list[NDArray[np.intp]]]
    refusal: str = ""

    @classmethod
    def of(cls, routes: Routes, probes: Probes, tolerance: float) -> _Comparison:
        pipelines = routes.of_output(probes.output)
        if probes.route not in pipelines:
            and_output = "" if probes.output is None else f" and the output {probes.output!r}"
            raise BundleError(
                routes.bundle.path, [f"probes of the route {probes.route!r}{and_output}, which no graph has"]
            )
        pipeline = pipelines[probes.route]
        width = pipeline.runner.output_width
        if probes.width != width or probes.per_token != pipeline.runner.per_token:
            of_each_token = " of each token" if probes.per_token else ""
            raise BundleError(
                routes.bundle.path, [f"probes of {probes.width} dimensions{of_each_token}, the graph gives {width}"]
            )
        task, engine, section = routes.bundle.task, pipeline.engine, routes.bundle.manifest.section
        allowed = {
            part.name: task.part_tolerance(part, tolerance, engine.graph.precision, engine.min_cosine)
            for part in task.parts(section, probes.output, probes.vectors)
        }
        tokens = pipeline.tokenize(probes.texts, probes.prompt)
        return cls(
            task, section, pipeline, probes, tokens, allowed, [], _plan_batches(pipeline, probes, tokens.lengths)
        )

    @property
    def total(self) -> int:
        """How many texts ``run_all`` computes, each as often as it does."""
        planned = sum(len(batch) for plan in self.plans.values() for batch in plan)
        return planned + len(self.probes.texts)

    def run_all(self, step: Step) -> None:
        """Compute the probes in every way of batching."""
        for case, plan in self.plans.items():
            self._run(case, plan, step)
        self._compare("batched by length", self._outputs_by_length(), step)

    def run_alone(self) -> None:
        """Compute each probe alone."""
        self._run(ALONE, self.plans[ALONE], Step())

    def run_together(self) -> None:
        """Compute the probes in one batch, if the graph takes so many."""
        if 1 < len(self.probes.texts) <= self.pipeline.runner.max_batch_size:
            self._run("in a batch", [np.arange(len(self.probes.texts))], Step())

    def failure(self) -> str:
        """Return the first thing that is wrong, "" where all is right."""
        stated, actual = np.array(self.probes.token_counts), self.tokens.lengths
        for position in np.flatnonzero(actual != stated)[:1]:
            return f"probe {position} has {actual[position]} tokens instead of {stated[position]}"
        if self.refusal:
            return self.refusal
        return next((reason for part, case in self.cases if (reason := self.tolerances[part].violation(case))), "")

    def _outputs_by_length(self) -> Iterator[tuple[NDArray[np.intp], Outputs]]:
        yield from self.pipeline.outputs(self.probes.texts, self.probes.prompt)

    def _run(self, case: str, plan: Sequence[NDArray[np.intp]], step: Step) -> None:
        outputs = self.pipeline.runner.run_batches(self.tokens, plan)
        self._compare(case, outputs, step)

    def _compare(self, case: str, parts: Iterable[tuple[NDArray[np.intp], Outputs]], step: Step) -> None:
        try:
            outputs = self.pipeline.runner.gather(_counted(parts, step), len(self.probes.texts))
        except OutputError as error:
            self.refusal = self.refusal or f"{case}: {error}"
            # Of objects as well, each of which then is an array of NaN.
            outputs = self.probes.vectors * np.float32(np.nan)
        name = case if self.probes.route is None else f"{self.probes.route}: {case}"
        name = f"{name}, prompted" if self.probes.prompt else name
        for part, reference in zip(self._parts(outputs), self._parts(self.probes.vectors), strict=True):
            output = " ".join(filter(None, (self.probes.output, f"({part.name})" if part.name else "")))
            named = f"{output}: {name}" if output else name
            deviation = self.task.compare(named, part.values, reference.values, self.probes.token_counts)
            self.cases.append((part.name, replace(deviation, worst_cosine=None) if part.weights else deviation))

    def _parts(self, outputs: Outputs) -> Sequence[OutputPart]:
        return self.task.parts(self.section, self.probes.output, outputs)


def _plan_batches(pipeline: Pipeline, probes: Probes, lengths: NDArray[np.int64]) -> dict[str, list[NDArray[np.intp]]]:
    """Return the ways of batching probes that have ``lengths`` (int64 [n]), by case."""
    plans = {ALONE: [np.array([position]) for position in range(len(lengths))]}
    shuffled = np.random.default_rng(0).permutation(np.arange(len(lengths), dtype=np.intp))
    rows = min(RAGGED_BATCH_ROWS, pipeline.engine.graph.max_batch_size or RAGGED_BATCH_ROWS)
    if rows > 1:
        # A fault at one length only shows in a batch of that length, so each probe is the longest of one once.
        plans["beside a shorter text"] = _pair_with_shorter(shuffled, lengths)
        plans[f"ragged batches of {rows}"] = list(_cut_ragged(shuffled, probes.token_counts, rows))
    return plans


def _counted(
    parts: Iterable[tuple[NDArray[np.intp], Outputs]], step: Step
) -> Iterator[tuple[NDArray[np.intp], Outputs]]:
    for rows, outputs in parts:
        yield rows, outputs
        step.advance(len(rows))


def _pair_with_shorter(order: NDArray[np.intp], lengths: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Return batches of two: each probe in turn, and the next in the order that is no longer than it."""
    plan = []
    for place, probe in enumerate(order):
        others = np.concatenate([order[place + 1 :], order[:place]])
        shorter = others[lengths[others] <= lengths[probe]]
        plan.append(np.array([*shorter[:1], probe], dtype=np.intp))
    return plan


def _cut_ragged(order: NDArray[np.intp], token_counts: Sequence[int], rows: int) -> Iterator[NDArray[np.intp]]:
    """Cut an order into batches of ``rows`` texts, of fewer where a long text makes them too expensive."""
    start = 0
    while start < len(order):
        size = rows
        while size > 2 and batch_cost(size, max(token_counts[i] for i in order[start : start + size])) > (
            RAGGED_BATCH_COST
        ):
            size -= 1
        yield order[start : start + size]
        start += size
