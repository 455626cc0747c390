"""What `monograph bench` measures, on real systems: threads, rows of those that fail, and the work of a graph."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from monograph.bundle import Bundle, open_bundle
from monograph.errors import InputError
from monograph_bench.measurement.reference import Reference, cosines, read_reference, score_agreement
from monograph_bench.measurement.session import Plan, run_session
from monograph_bench.measurement.speed import Rounds
from monograph_bench.measurement.start import start_all
from monograph_bench.peers.systems import peer_systems
from monograph_bench.process import MeasurementError, SystemProcess
from monograph_bench.profiles.rerank import file_pairs, make_pairs
from monograph_bench.report.table import lines_of
from monograph_bench.results import Results, Settings, SystemResult, read_results
from monograph_bench.systems import System, Unavailable, bundle_system, bundle_systems, open_bundles, token_lengths
from monograph_bench.texts import MIXES, Workload, file_workload, make_workload

QUICK = Settings(rounds=1, starts=1, calls=3, trial_texts=8)


def cpus(count: int) -> list[int]:
    return sorted(os.sched_getaffinity(0))[:count]


def sentence_transformers(checkpoint: Path, threads: int) -> System:
    [system], _ = peer_systems(["sentence-transformers"], checkpoint, threads)
    return replace(system, batch_sizes=(8, 32))


def systems(bundle: Path, checkpoint: Path, threads: int) -> list[System]:
    ours = bundle_systems(open_bundles([str(bundle)]), "all", "float32", threads).values()
    return [*(system for system in ours if isinstance(system, System)), sentence_transformers(checkpoint, threads)]


@pytest.mark.slow
def test_a_system_allowed_one_thread_uses_one_core(minilm_bundle: Path, minilm: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps(make_workload("mixed", 60, "en").texts))
    measured = systems(minilm_bundle, minilm, 1)
    assert len(measured) >= 3
    for system in measured:
        with SystemProcess(system, cpus(1), 120) as process:
            process.request("read", name="texts", file=str(texts))
            before = process.cpu_seconds()
            seconds = process.request("encode", name="texts", batch_size=8, vectors=None)["seconds"]
            # The clock of CPU time ticks in hundredths of a second, and reading the request is in it too.
            assert process.cpu_seconds() - before <= seconds * 1.03 + 0.05, system.name
            assert process.described["threads"] == "1"


@pytest.mark.slow
def test_a_paused_system_takes_no_cpu_time(tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    for system in systems(tiny_bundle, tiny_checkpoint, 2):
        with SystemProcess(system, cpus(2), 120) as process:
            process.pause()
            before = process.cpu_seconds()
            np.linalg.svd(np.random.default_rng(0).random((400, 400)))
            assert process.cpu_seconds() == before
            process.resume()


@pytest.fixture(scope="module")
def results(tiny_bundle: Path, tiny_checkpoint: Path) -> Results:
    bundles = open_bundles([str(tiny_bundle)])
    run: dict[str, System | Unavailable] = dict(bundle_systems(bundles, "all", "all", 1))
    run["sentence-transformers"] = sentence_transformers(tiny_checkpoint, 1)
    lost = ours("lost", tiny_bundle)
    run["lost"] = replace(lost, options={**lost.options, "bundle": "/nowhere"})
    run["absent"] = Unavailable("peer", "its environment is not there")
    workloads = [make_workload("mixed", 12, "en"), make_workload("short", 12, "en")]
    calls = Workload("calls", make_workload("short", 8, "en").texts)
    return run_session(Plan(run, bundles, workloads, calls, cpus(1), QUICK))


def ours(name: str, bundle: Path) -> System:
    return bundle_system(name, open_bundle(bundle), "cpu", "float32", 1)


def test_every_system_is_measured_in_every_way(results: Results) -> None:
    measured = [system for system in results.systems if not system.failure]
    assert {system.name for system in measured} >= {"monograph bundle cpu float32", "sentence-transformers"}
    for system in measured:
        assert [len(rounds) for rounds in system.rounds.values()] == [1, 1]
        assert all(
            one.seconds > 0 and one.machine_speed_seconds > 0 for rounds in system.rounds.values() for one in rounds
        )
        assert {size: [len(calls.seconds) for calls in rounds] for size, rounds in system.latencies.items()} == {
            "1": [3],
            "8": [3],
        }
        assert len(system.starts) == 1
        assert system.memory["anonymous"] is not None
        assert system.cosine["worst"] > 0.999
        assert system.described["threads"] == "1"
    ours = next(system for system in measured if system.kind == "monograph")
    assert 0 <= ours.padding["mixed"] < 1
    assert 0 < ours.roofline["mixed"] < 1
    assert results.memory_bandwidth is not None
    # A call of the tiny model is mostly not its weights.
    assert ours.weight_bytes is not None
    assert {size: 0 < share < 1 for size, share in ours.bandwidth.items()} == {"1": True, "8": True}


def test_a_system_that_cannot_run_is_a_row_with_its_reason(results: Results) -> None:
    failures = {system.name: system.failure for system in results.systems if system.failure}
    assert "/nowhere" in failures["lost"]
    assert failures["absent"] == "its environment is not there"
    table = "\n".join(lines_of(results))
    assert f"not measured: lost: {failures['lost']}" in table


def test_results_are_read_as_they_were_written(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 99}', "[1]"])
def test_what_is_no_result_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=r"results\.json"):
        read_results(tmp_path / "results.json")


def test_a_system_that_does_not_answer_in_time_is_ended(minilm: Path) -> None:
    with pytest.raises(MeasurementError, match="no answer within 0 s"):
        SystemProcess(sentence_transformers(minilm, 1), cpus(1), timeout=0.2)


def test_a_system_that_dies_is_reported_with_its_last_line(tiny_bundle: Path) -> None:
    with SystemProcess(ours("dies", tiny_bundle), cpus(1), 60) as process:
        process._seen.kill()
        with pytest.raises(MeasurementError, match="exit status -9"):
            process.request("read", name="texts", file="none")


@pytest.mark.parametrize("mix", list(MIXES))
@pytest.mark.parametrize("language", ["en", None])
def test_texts_of_a_mix_are_the_same_every_time_and_none_is_there_twice(mix: str, language: str | None) -> None:
    texts = make_workload(mix, 1000, language).texts
    assert len(set(texts)) == 1000
    assert make_workload(mix, 1000, language).texts == texts


def test_mixed_texts_have_50_to_60_tokens_and_long_ones_fill_the_model(minilm_bundle: Path) -> None:
    bundle = open_bundle(minilm_bundle)
    means = {mix: token_lengths(bundle, make_workload(mix, 1000, "en").texts).mean() for mix in MIXES}
    assert means["short"] < 30
    assert 50 <= means["mixed"] <= 60
    assert means["long"] > 200


def test_a_system_that_fails_in_a_round_keeps_its_rounds_and_does_not_stop_the_others(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    names = ("dies", "lives")
    results = {name: SystemResult(name, "monograph") for name in names}
    workload = make_workload("short", 8, "en")
    with ExitStack() as stack:
        running = start_all([ours(name, tiny_bundle) for name in names], results, cpus(1), 60, stack)
        rounds = Rounds(running, results, QUICK, tmp_path)
        rounds.read(workload)
        rounds.throughput([workload])
        running["dies"]._seen.kill()
        for _ in range(2):
            rounds.throughput([workload])
        rounds.latency(workload, (1, 8), 3)
    assert [len(results[name].rounds["short"]) for name in names] == [1, 3]
    assert results["dies"].failure == "encode: ended with exit status -9: no message"
    assert not results["dies"].latencies
    assert not results["lives"].failure
    assert len(results["lives"].latencies["8"]) == 1


@pytest.fixture
def one(tiny_bundle: Path, tmp_path: Path) -> Iterator[tuple[Rounds, SystemResult]]:
    """Rounds of one running system, and its result."""
    result = SystemResult("ours", "monograph")
    with ExitStack() as stack:
        running = start_all([ours("ours", tiny_bundle)], {"ours": result}, cpus(1), 60, stack)
        yield Rounds(running, {"ours": result}, QUICK, tmp_path), result


def test_texts_that_a_system_cannot_embed_cost_only_what_they_were_for(one: tuple[Rounds, SystemResult]) -> None:
    rounds, result = one
    workload = make_workload("short", 8, "en")
    # No text, as JSON has it.
    assert not list(rounds.vectors(Workload("odd", (None,))))  # type: ignore[arg-type]
    rounds.read(workload)
    rounds.throughput([workload])
    assert not result.failure
    assert len(result.rounds["short"]) == 1


def test_a_batch_size_that_fails_is_not_chosen_and_costs_nothing_else(one: tuple[Rounds, SystemResult]) -> None:
    rounds, result = one
    # Texts in a batch cannot be none.
    rounds.choose_batch_sizes({"ours": (0, 4)}, make_workload("short", 8, "en"))
    assert not result.failure
    assert result.batch_sizes == {"short": 4}


def test_a_large_call_is_cut_into_the_batches_of_a_pass(one: tuple[Rounds, SystemResult]) -> None:
    rounds, result = one
    workload = make_workload("short", 8, "en")
    result.batch_sizes["short"] = 0
    # Texts in a batch cannot be none, so that the requested size is seen.
    rounds.latency(workload, (1, 8), 3, "short")
    assert "batch_size" in result.failure
    assert not result.latencies


@pytest.mark.parametrize("language", ["en", None])
def test_each_query_of_pairs_has_a_hundred_passages(language: str | None) -> None:
    pairs = make_pairs(250, language).texts
    assert make_pairs(250, language).texts == pairs
    assert len(set(pairs)) == len({pair[1] for pair in pairs}) == 250
    queries = [pair[0] for pair in pairs]
    assert [queries.count(query) for query in dict.fromkeys(queries)] == [100, 100, 50]
    assert queries == sorted(queries, key=queries.index)


@pytest.mark.parametrize("content", [None, b"", b"\xff\n"])
def test_a_file_without_texts_is_no_input(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"mine\.txt"):
        file_workload(file, None)


def test_pairs_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.tsv"
    file.write_text("What floats?\tA boat.\nWhat floats?\tBread.\nWhat floats?\tA boat.\n")
    assert file_pairs(file, None) == Workload("mine.tsv", (("What floats?", "A boat."), ("What floats?", "Bread.")))
    assert len(file_pairs(file, 1).texts) == 1
    with pytest.raises(InputError, match="absent cannot be read"):
        file_pairs(tmp_path / "absent", None)
    with pytest.raises(InputError, match="named as the pairs of rerank"):
        file_pairs(tmp_path / "rerank", None)


def reference(*rows: list[float]) -> Reference:
    return Reference(Workload("probes", ()), np.array(rows, np.float32), "")


@pytest.mark.parametrize("changed", ["compression", "vocabulary", "encoder_file"])
def test_only_the_unchanged_model_is_the_reference(changed: str, tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    quality = bundle.manifest.quality
    result = read_reference({"first": _with_quality(bundle, **{changed: "any"}), "second": bundle})
    assert result is not None
    assert result.description == f"the {len(result.texts.texts)} probes of second: {quality.reference}"
    assert quality.reference.startswith("sentence-transformers in torch, float32")
    assert read_reference({"first": _with_quality(bundle, **{changed: "any"})}) is None


def _with_quality(bundle: Bundle, **changes: Any) -> Bundle:
    manifest = bundle.manifest
    return replace(bundle, manifest=replace(manifest, quality=replace(manifest.quality, **changes)))


def test_scores_are_compared_by_their_spread_and_their_order() -> None:
    expected = reference([-2], [0], [1], [2])
    scores = np.array([-2, 0.4, 1, 2], np.float32)
    assert score_agreement(scores, expected) == pytest.approx(
        {"spearman": 1, "mean_difference": 0.025, "worst_difference": 0.1}
    )
    assert score_agreement(scores[::-1], expected)["spearman"] < 0
    # Of several labels the worst counts.
    both = score_agreement(np.array([[-2, 0], [0.4, 3]], np.float32), reference([-2, 0], [2, 2]))
    assert both["worst_difference"] == pytest.approx(0.5)
    assert score_agreement(np.zeros((4, 2), np.float32), expected) == {}
    broken = score_agreement(np.array([np.nan, 0, 1, 2], np.float32), expected)
    assert broken["spearman"] == 0
    assert broken["worst_difference"] == pytest.approx(3.4e38, rel=0.01)


def test_vectors_of_zeros_are_right_only_where_the_reference_is_zero_too() -> None:
    expected = reference([0, 0], [1, 0])
    assert cosines(expected.vectors, expected) == {"mean": 1, "worst": 1}
    assert cosines(expected.vectors[::-1], expected)["worst"] == 0


KILLED = """
import os, sys
from monograph.bundle import open_bundle
from monograph_bench.process import SystemProcess
from monograph_bench.systems import bundle_system

system = bundle_system("ours", open_bundle(sys.argv[1]), "cpu", "float32", 1)
process = SystemProcess(system, [min(os.sched_getaffinity(0))], 60)
process.pause()
print(process._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_no_stopped_process_is_left_where_the_benchmark_is_killed(tiny_bundle: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tiny_bundle], stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(done.stdout))


def test_texts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("A boat.\nBread.\nA boat.\n")
    assert file_workload(file, None) == Workload("mine.txt", ("A boat.", "Bread."))
    assert file_workload(file, 1).texts == ("A boat.",)
    with pytest.raises(InputError, match="named as the length mix short"):
        file_workload(tmp_path / "short", None)
    with pytest.raises(InputError, match="length mix 'odd' is unknown"):
        make_workload("odd", 1, "en")
