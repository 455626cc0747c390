"""Steps in lines, as bars, or not at all; and those of another process."""

from __future__ import annotations

import io
import logging
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from monograph import prepare
from monograph.bundle.archive import pack_bundle, unpack_bundle
from monograph.inference.progress_events import Events, Replay
from monograph.progress import BYTES, SILENT, Bars, Lines, Progress, format_amount, format_seconds, progress_for
from support.recorder import Recorder
from support.terminal import screen


def work(progress: Progress) -> None:
    with progress.step("Loading the model"):
        pass
    with progress.step("Computing the reference", 3, "texts") as step:
        for _ in range(3):
            step.advance()
    with progress.step("Writing the weights", 2_500_000, BYTES) as step:
        step.advance(2_000_000)
        step.advance(500_000)


class Stream(io.StringIO):
    """A terminal of which nothing else is known."""

    def isatty(self) -> bool:
        return True


def test_lines_are_written_as_steps_begin() -> None:
    stream = io.StringIO()
    progress = Lines(stream)
    with progress.step("Loading the model"):
        assert stream.getvalue() == "[   0.0 s] Loading the model\n"
    work(Lines(stream := io.StringIO()))
    assert [line.split("] ")[1] for line in stream.getvalue().splitlines()] == [
        "Loading the model",
        "Computing the reference: 3 texts",
        "Writing the weights: 2.5 MB",
    ]


def test_lines_say_how_far_a_long_step_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monograph.progress._LINE_SECONDS", 0.0)
    work(Lines(stream := io.StringIO()))
    assert [line.split("] ")[1] for line in stream.getvalue().splitlines()] == [
        "Loading the model",
        "Computing the reference: 3 texts",
        "Computing the reference: 1 of 3 texts",
        "Computing the reference: 2 of 3 texts",
        "Computing the reference: 3 of 3 texts",
        "Writing the weights: 2.5 MB",
        "Writing the weights: 2.0 MB of 2.5 MB",
        "Writing the weights: 2.5 MB of 2.5 MB",
    ]


def test_bars_leave_a_line_for_each_step() -> None:
    stream = Stream()
    work(Bars(stream))
    assert "Loading the model ..." in stream.getvalue()
    assert "Writing the weights:   0%|" in stream.getvalue()
    lines = screen(stream.getvalue())
    assert [line.rsplit(" ", 2)[0] for line in lines] == [
        "Loading the model:",
        "Computing the reference: 3 texts in",
        "Writing the weights: 2.5 MB in",
    ]
    assert all(line.endswith(" s") for line in lines)


def test_of_a_step_that_fails_no_bar_is_left() -> None:
    stream = Stream()
    with suppress(KeyboardInterrupt), Bars(stream).step("Computing", 9, "texts") as step:
        step.advance(4)
        raise KeyboardInterrupt
    assert "Computing" in stream.getvalue()
    assert screen(stream.getvalue()) == []


def test_a_line_is_written_above_the_bar() -> None:
    stream = Stream()
    bars = Bars(stream)
    with bars.step("Loading the model"):
        bars.write("the maximum length is lowered")
        assert screen(stream.getvalue()) == ["the maximum length is lowered", "Loading the model ..."]
    assert [line.partition(":")[0] for line in screen(stream.getvalue())] == [
        "the maximum length is lowered",
        "Loading the model",
    ]


def test_bars_start_no_thread() -> None:
    before = set(threading.enumerate())
    with Bars(Stream()).step("Computing", 9, "texts"):
        assert set(threading.enumerate()) == before


class Full(io.StringIO):
    """A log file on a disk without room."""

    def write(self, _text: str) -> int:
        raise OSError("No space left on device")


def test_a_report_that_cannot_be_written_ends_no_work() -> None:
    work(Lines(Full()))


def test_names_of_strangers_are_printed_on_one_short_line() -> None:
    stream = io.StringIO()
    Lines(stream).step("Evaluating \x1b[2J" + "x" * 500)
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert len(stream.getvalue()) < 100


@pytest.mark.parametrize(
    ("level", "expected"), [(logging.INFO, Bars), (logging.DEBUG, Bars), (logging.WARNING, type(SILENT))]
)
def test_by_default_bars_are_for_those_who_log_at_info(level: int, expected: type) -> None:
    logger = logging.getLogger("monograph")
    before = logger.level
    logger.setLevel(level)
    try:
        assert type(progress_for(None)) is expected
        assert type(progress_for(True)) is Bars
        assert progress_for(False) is SILENT
        assert progress_for(recorder := Recorder()) is recorder
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(
    ("count", "unit", "words"),
    [(195, "texts", "195 texts"), (1, "graphs", "1 graph"), (12_345, "pairs", "12,345 pairs"), (17, BYTES, "17 bytes"),
     (1_900_000_000, BYTES, "1.9 GB"), (24_500_000, BYTES, "24.5 MB"), (95_300, BYTES, "95.3 kB")],
)  # fmt: skip
def test_amounts(count: int, unit: str, words: str) -> None:
    assert format_amount(count, unit) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (8.44, "8.4 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (133, "2 min 13 s"),
     (3599.6, "1 h 00 min"), (7500, "2 h 05 min")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert format_seconds(seconds) == words


def test_events_of_another_process_are_replayed_as_they_arrive() -> None:
    stream, recorder = io.StringIO(), Recorder()
    replay = Replay(recorder)
    work(Events(stream))
    output = stream.getvalue().encode()
    for end in range(0, len(output), 7):
        replay.read(output[:end])
        assert len(recorder.steps) <= output[:end].count(b'"step"')
    replay.read(output)
    replay.close()
    recorder.assert_complete()
    assert [(step.name, step.total, step.unit) for step in recorder.steps] == [
        ("Loading the model", None, ""),
        ("Computing the reference", 3, "texts"),
        ("Writing the weights", 2_500_000, BYTES),
    ]


def test_a_step_that_the_process_left_open_has_failed() -> None:
    stream, recorder = io.StringIO(), Recorder()
    replay = Replay(recorder)
    with Events(stream).step("Verifying", 5, "texts") as step:
        step.advance(2)
        replay.read(stream.getvalue().encode() + b"what an engine prints\n")
    replay.close()
    assert [(step.count, step.done) for step in recorder.steps] == [(2, False)]


def test_packing_and_unpacking_count_every_byte(tiny_bundle: Path, tmp_path: Path) -> None:
    packing, unpacking = Recorder(), Recorder()
    file = pack_bundle(tiny_bundle, tmp_path / "tiny.tar", packing)
    unpack_bundle(file, tmp_path / "there", unpacking)
    assert packing.names == ["Hashing the files", "Packing the files"]
    packing.assert_complete()
    assert unpacking.names == ["Unpacking the files", "Hashing the files"]
    # The headers and padding of the archive are not counted.
    assert 0.8 < unpacking.steps[0].count / file.stat().st_size < 1
    assert unpacking.steps[1].count == unpacking.steps[1].total


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_preparation_reports_its_steps(device: str, tiny_bundle: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    prepare(tiny_bundle, device, "float32", cache_dir=tmp_path / "cache", show_progress_bar=recorder)
    assert recorder.names[:2] == [f"Loading on {device} at float32", "Filling the cache"]
    recorder.assert_complete()
