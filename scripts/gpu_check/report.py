"""What a run found, in a few lines and as a table for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_check.record import read_record
from gpu_check.stages import STAGES

_NOT_TIMED = (
    "Not timed: loading, first calls, and making the texts. Random weights: cosines say whether a graph is right."
)


def print_stage(name: str, values: dict[str, Any]) -> None:
    """Print one line: how a stage ended, and why."""
    detail = values.get("reason") or values.get("error") or ""
    print(f"{name:<14} {values['status']:<10} {values.get('seconds', 0):6.1f} s  {detail}", flush=True)


def write_summary(output: Path) -> str:
    """Write summary.md from the JSON files that are there, and return its text."""
    records = {entry.name: read_record(output / f"{entry.name}.json") for entry in STAGES}
    lines = list(_lines({name: values for name, values in records.items() if values}))
    text = "\n".join([*lines, "", _NOT_TIMED, ""])
    (output / "summary.md").write_text(text, "utf-8")
    return text


def _lines(records: dict[str, dict[str, Any]]) -> Iterator[str]:
    check = records.get("check", {})
    yield f"GPU: {check.get('gpu')}; packages: {check.get('packages')}"
    for name, values in records.items():
        yield f"\n## {name}: {values['status']}"
        if detail := values.get("error") or values.get("reason"):
            yield str(detail)
        yield from _bulk(values.get("bulk", {}))
        yield from _single(values.get("single", {}))
        if cosines := values.get("worst_cosine"):
            yield f"worst cosine to torch at float32: {cosines}"
        if name in ("variants",):
            for workload, systems in values.get("results", {}).items():
                yield f"\n{workload}"
                yield from _rates(systems)
        elif name in ("budgets", "int8-weights"):
            yield from _rates(values.get("results", {}))
        elif name == "host":
            yield from _host(values)
        for system, failure in values.get("failures", {}).items():
            yield f"{system}: {failure.strip().splitlines()[-1]}"


def _bulk(bulk: dict[str, Any]) -> Iterator[str]:
    for workload, values in bulk.items():
        ratio = values["monograph_to_best_other"]
        yield f"\n{workload}: {values['texts']} texts, {values['tokens']} tokens; monograph to the best other: {ratio}"
        yield from _rates(values["systems"])


def _single(single: dict[str, Any]) -> Iterator[str]:
    for workload, systems in single.items():
        ratio = systems["monograph_to_best_other"]
        yield f"\none text of {workload}; monograph's p50 to the best other: {ratio}"
        yield from ("\n| system | p50 ms | p95 ms |", "|---|---|---|")
        for name, values in systems.items():
            if isinstance(values, dict):
                yield f"| {name} | {values['p50_ms']} | {values['p95_ms']} |"


def _rates(systems: dict[str, Any]) -> Iterator[str]:
    yield from ("\n| system | texts/s | tokens/s | rounds | worst cosine to the first |", "|---|---|---|---|---|")
    for name, values in systems.items():
        cosine = values.get("worst_cosine", "")
        rates = f"{values['texts_per_second']:.0f} | {values['tokens_per_second']}"
        yield f"| {name} | {rates} | {len(values['seconds'])} | {cosine and round(cosine, 6)} |"


def _host(values: dict[str, Any]) -> Iterator[str]:
    yield f"copies, GB/s: {values.get('copies_gb_per_second')}"
    for workload, threads in values.get("tokenization", {}).items():
        rates = {count: one["tokens_per_second"] for count, one in threads.items()}
        yield f"tokenization of {workload}, tokens/s by threads: {rates}"
    for workload, one in values.items():
        if isinstance(one, dict) and "bound_by" in one:
            share = one["share_of_the_bound_reached"]
            yield f"\n{workload}: bound by {one['bound_by']}; `encode` reaches {share} of it"
            yield from ("\n| step | tokens/s |", "|---|---|")
            yield from (f"| {step} | {rate} |" for step, rate in one["tokens_per_second"].items())
