"""Parts of bulk runs by themselves: duplicates, threads that read ahead, machines and simulated clusters."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import Embedder, InputError
from monograph.bulk.duplicates import VectorTable
from monograph.bulk.machines import machine_named
from monograph.bulk.overlap import ahead, behind
from monograph.bulk.plan import Corpus, Disturbances, Rate, estimate, measure
from monograph.bulk.simulation import Cluster, simulate
from monograph.bulk.workers import Failure, attempt, share_cpus
from monograph.integrations.ray import EmbedBatch
from support.command import assert_error, monograph

DATA = Path(__file__).parents[1] / "data"


class Lengths:
    """Encodes a text as its length, and notes what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        self.given += texts
        return np.array([[len(text), 1] for text in texts], np.float32)


def test_each_text_is_encoded_once_as_long_as_the_table_remembers_it() -> None:
    encode, texts = Lengths(), [f"text {number % 50}" for number in range(1000)]
    table = VectorTable(1 << 20, 2, np.dtype(np.float32))
    for first in range(0, 1000, 30):
        part = texts[first : first + 30]
        np.testing.assert_array_equal(table.encode(part, encode)[:, 0], [len(text) for text in part])
    assert sorted(encode.given) == sorted(set(texts))
    assert table.found == 950


def test_a_table_forgets_the_oldest_and_stays_right() -> None:
    random, encode = np.random.default_rng(0), Lengths()
    # Room for a handful.
    table = VectorTable(1000, 2, np.dtype(np.float32))
    texts = ["x" * int(length) for length in random.integers(0, 40, 3000)]
    for first in range(0, 3000, 7):
        part = texts[first : first + 7]
        np.testing.assert_array_equal(table.encode(part, encode)[:, 0], [len(text) for text in part])
    assert 40 < len(encode.given) < 3000
    assert len(table._places) == table._slots == len(table._keys)


def test_a_block_larger_than_the_table() -> None:
    encode, texts = Lengths(), [str(number) * 3 for number in range(100)]
    table = VectorTable(1, 2, np.dtype(np.float32))
    np.testing.assert_array_equal(table.encode(texts * 2, encode)[:, 0], [len(text) for text in texts * 2])
    assert encode.given == texts


def test_items_are_made_ahead_in_order_and_errors_come_in_their_place() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number
        raise OSError("no more")

    seen: list[int] = []

    def take_all() -> None:
        with ahead(items()) as ready:
            for item in ready:
                end = time.monotonic() + 10
                while len(made) < min(5, item + 2):
                    assert time.monotonic() < end
                    time.sleep(0.001)
                seen.append(item)

    with pytest.raises(OSError, match="no more"):
        take_all()
    assert seen == [0, 1, 2, 3, 4]


def test_calls_behind_are_made_in_order_and_their_errors_are_raised() -> None:
    called: list[int] = []
    with behind(called.append) as call:
        for number in range(20):
            call(number)
    assert called == list(range(20))

    def fail(number: int) -> None:
        if number == 3:
            raise OSError("full")

    def call_all() -> None:
        with behind(fail) as call:
            for number in range(10):
                call(number)

    with pytest.raises(OSError, match="full"):
        call_all()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("monograph-")]


def test_cpus_are_shared_out() -> None:
    own = sorted(os.sched_getaffinity(0))
    assert [cpu for cpus in share_cpus(len(own)) for cpu in cpus] != []
    assert sorted(cpu for cpus in share_cpus(len(own), 1) for cpu in cpus) == own
    assert [len(cpus) for cpus in share_cpus(3, 2)] == [2, 2, 2]


def test_what_fails_is_a_failure_but_an_interrupt_ends_the_run() -> None:
    def fail(error: BaseException) -> None:
        try:
            raise error
        finally:
            raise OSError("cannot clean up")

    assert attempt(fail, ValueError()) == Failure("cannot clean up")
    with pytest.raises(KeyboardInterrupt):
        attempt(fail, KeyboardInterrupt())


def test_machines_by_name() -> None:
    machine = machine_named("c8i.4xlarge")
    assert (machine.cores, machine.memory_gib) == (8, 32)
    assert machine.dollars_per_hour is None
    assert machine_named("c8i.4xlarge", 1.5).dollars_per_hour == 1.5
    assert machine_named("c8g.large").cores == 2
    assert machine_named("8:64", 1.5).memory_gib == 64
    assert machine_named("8:64").name == "8:64"
    for name in ("c8i", "c99x.large", "0", "x:1", "8:0", "", "c8i.hugexlarge"):
        with pytest.raises(InputError, match="is not known"):
            machine_named(name)


def cluster(**changes: float) -> Cluster:
    values: dict[str, float] = {
        "nodes": 10, "processes": 2, "tables": 400, "table_seconds": 100, "table_spread": 0, "node_spread": 0,
        "losses_per_node_hour": 0, "replacement_seconds": 60,
    }  # fmt: skip
    return Cluster(**{**values, **changes})  # type: ignore[arg-type]


def test_equal_nodes_take_their_share_of_the_work() -> None:
    assert simulate(cluster(), 0).seconds == pytest.approx(400 * 100 / 20)
    # A last table that has a process to itself.
    assert simulate(cluster(tables=401), 0).seconds == pytest.approx(2100)


def test_lost_nodes_cost_their_tables_and_no_more() -> None:
    run = simulate(cluster(losses_per_node_hour=2, table_spread=0.2), 0)
    assert run.lost_tables > 5
    # On average half a table for each.
    assert run.lost_share == pytest.approx(run.lost_tables * 50 / (400 * 100), rel=0.6)
    assert 2000 < run.seconds < 4000
    assert simulate(cluster(losses_per_node_hour=2, table_spread=0.2), 0) == run


def test_an_estimate_is_work_over_rate() -> None:
    rate = Rate(1000, 100 << 20, 50 << 20, "as given")
    corpus = Corpus(1e8, 60, 240, 1536)
    calm = Disturbances(table_spread=0, node_spread=0, losses_per_node_hour=0)
    found = estimate(corpus, rate, machine_named("8:32", 2.0), 10, calm)
    assert found.hours == pytest.approx(1e8 * 60 / 1000 / 80 / 3600)
    assert found.likely_hours == pytest.approx(found.hours, rel=0.02)
    assert found.likely_hours is not None
    assert found.dollars is not None
    assert found.dollars == pytest.approx(found.likely_hours * 10 * 2.0)
    assert found.dollars_per_million_texts == pytest.approx(found.dollars / 100)
    assert found.output_gib == pytest.approx(1e8 * 1536 / 2**30)
    assert found.memory_gib == pytest.approx((8 * 100 + 2 * 50) / 1024)


def test_an_estimate_says_nothing_of_what_it_does_not_know() -> None:
    rate = Rate(1000, 100 << 20, 50 << 20, "given")
    # More tables than are simulated, and no price.
    found = estimate(Corpus(1e10, 60, 240, 1536), rate, machine_named("8:32"), 1000)
    assert (found.likely_hours, found.worst_hours, found.lost_share) == (None, None, None)
    assert (found.dollars, found.dollars_per_million_texts) == (None, None)
    assert found.hours == pytest.approx(1e10 * 60 / 1000 / 8000 / 3600)


def plan(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    options = ("--device", "cpu", "--threads", "1", "--texts", "1e6")
    return monograph("plan", DATA / "embedding", *options, *arguments)


def test_plan_says_what_is_measured_and_what_is_assumed() -> None:
    done = plan("--machines", "8:32,16:64", "--price", "1,2", "--losses", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    measured, given, assumed = (" ".join(value["inputs"][kind]) for kind in ("measured here", "given", "assumed"))
    assert f"{value['rate']['tokens_per_second']:,.0f} tokens/s" in measured
    assert "1,000,000 texts" in given
    assert "prices" in given
    assert "lost 0.1 times" in given
    for words in ("60 tokens a text", "4 bytes of text a token", "a file takes a core about 600 s"):
        assert words in assumed
    hours, doubled = (each["likely_hours"] for each in value["estimates"])
    assert [each["dollars"] for each in value["estimates"]] == pytest.approx([hours * 1, doubled * 2])
    done = plan("--tokens-per-second", "500", "--mean-tokens", "30")
    assert done.returncode == 0, done.stderr
    measured, given, assumed = done.stdout.decode().splitlines()[-3:]
    assert "tokens/s" not in measured
    assert given == "given: 500 tokens/s; 1,000,000 texts; 30 tokens a text"
    assert "the given rate" in assumed
    assert "no --price" in done.stdout.decode()
    assert_error(plan("--machines", "8:32,16:64", "--price", "1"), 1, "1 prices for 2 --machines")
    assert_error(plan("--price", "much"), 2, "must be a number above 0")
    assert_error(plan("--texts", "1e300"), 2, "--texts", "at most 1e+15")
    # Where every table is lost again before it is finished, a simulation would not end.
    for losses in ("-1", "nan", "1000"):
        assert_error(plan("--losses", losses), 2, "--losses", "must be a number from 0 to 10")


def test_a_model_is_measured_on_texts_of_the_wanted_length() -> None:
    with Embedder(DATA / "embedding", device="cpu", threads=1) as model:
        rate = measure(model, 40)
    assert rate.tokens_per_second > 0
    assert rate.process_bytes > 1 << 20
    assert rate.shared_bytes > 10_000


def test_only_the_tokens_that_the_model_reads_are_measured_and_counted() -> None:
    # Texts of a billion tokens would also not fit into memory.
    done = plan("--mean-tokens", "1e9", "--bytes-per-text", "4e9", "--tokens-per-second", "500", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    with Embedder(DATA / "embedding", device="cpu", threads=1) as model:
        longest = model.max_length
    assert longest is not None
    assert value["corpus"]["mean_tokens"] == longest
    assert value["estimates"][0]["hours"] == pytest.approx(1e6 * longest / 500 / 8 / 3600)
    assert value["estimates"][0]["input_gib"] == pytest.approx(1e6 * 4e9 / 2**30)
    assert f"1e+09 tokens a text, of which the model reads {longest}" in value["inputs"]["given"]


def test_a_row_is_not_a_batch_of_characters() -> None:
    """`datasets` gives single rows to what is mapped without ``batched``."""
    with pytest.raises(InputError, match="batched=True"):
        EmbedBatch(DATA / "embedding", device="cpu")({"text": "a boat"})
