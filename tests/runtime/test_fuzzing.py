"""The short form of `scripts/fuzz`: a few cases of each kind; and that the fuzzer sees what it looks for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzing.campaign import Campaign
from fuzzing.kinds import KINDS
from fuzzing.outcomes import ERROR, RESULT, Violation, check_message, limited, outcome_of
from fuzzing.supervisor import Supervisor
from fuzzing.watch import OpenedFiles
from fuzzing.workplace import MANIFEST, Special, Workplace, manifest_of, state_files
from monograph import InputError, MonographError

# The number of the first case, and how many: some seconds for each kind.
SHORT = {
    "manifests": (0, 100),
    "measurements": (0, 60),
    "probes": (0, 40),
    "tokenizers": (0, 30),
    "graphs": (4, 25),
    "archives": (0, 60),
    "lines": (0, 40),
}


class UnescapedError(MonographError):
    """An error whose message is as it was given."""

    def __str__(self) -> str:
        return str(self.args[0])


@pytest.mark.parametrize("kind", KINDS)
def test_each_case_is_a_result_or_one_error(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, cases = SHORT[kind]
    campaign = Campaign(kind, "cpu", 1, tmp_path)
    summary = campaign.run(first, cases, deadline=None)
    assert not campaign.failures, capsys.readouterr().err
    assert summary["cases"] == cases
    # A fuzzer whose cases are all refused, or all accepted, tests one half only.
    assert set(summary["outcomes"]) <= {RESULT, ERROR}
    assert summary["outcomes"][ERROR] > 0


def test_mutated_graphs_on_openvino(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    campaign = Campaign("graphs", "openvino", 1, tmp_path)
    campaign.run(8, 3, deadline=None)
    assert not campaign.failures, capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_follows_from_its_seed_and_number(kind: str, tmp_path: Path) -> None:
    saved = []
    for name in ("once", "again"):
        folder = tmp_path / name
        folder.mkdir()
        with Supervisor(kind, "cpu", 7) as supervisor:
            outcome = supervisor.run(3, save=folder)
        saved.append((outcome.mutations, {path.name: path.read_bytes() for path in folder.iterdir()}))
    assert saved[0][0]
    assert saved[0] == saved[1]


def test_a_mutation_can_be_left_out() -> None:
    with Supervisor("manifests", "cpu", 1) as supervisor:
        number = next(number for number in range(100) if len(supervisor.run(number).mutations) > 1)
        whole = supervisor.run(number).mutations
        assert len(supervisor.run(number, without=[0]).mutations) == len(whole) - 1


def test_the_end_of_the_process_is_an_outcome_and_the_next_case_runs_in_another() -> None:
    with Supervisor("lines", "cpu", 1) as supervisor:
        supervisor.run(0)
        worker = supervisor._process
        assert worker is not None
        worker.send_signal(signal.SIGSTOP)
        threading.Timer(0.3, worker.kill).start()
        assert supervisor.run(1).kind == "exit by SIGKILL"
        assert supervisor.run(1).passed


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("name a file"), ERROR),
        (UnescapedError("two\nlines"), "control character in a message"),
        (UnescapedError("\x1b[2J"), "control character in a message"),
        (UnescapedError("x" * 100_000), "length of a message"),
        (ValueError("shape mismatch"), "foreign ValueError"),
        (KeyboardInterrupt(), "foreign KeyboardInterrupt"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_only_one_line_of_our_own_is_an_error(error: BaseException, kind: str) -> None:
    assert outcome_of(error)[0] == kind


def test_a_read_of_what_the_manifest_does_not_list_is_a_failure(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    files = {**place.originals["embedding"], "unlisted.bin": b"x", "link": Special("link", "../outside.bin")}
    reads: list[tuple[Callable[[], object], bool]] = [
        (lambda: (tmp_path / "embedding" / "model.onnx").read_bytes(), True),
        (lambda: (tmp_path / "embedding" / "unlisted.bin").read_bytes(), False),
        (lambda: (tmp_path / "embedding" / "link").read_bytes(), False),
        (lambda: subprocess.run(["cat", place.outside], check=True, stdout=subprocess.DEVNULL), False),  # noqa: S607
    ]
    for read, allowed in reads:
        place.apply("embedding", files)
        read()
        if allowed:
            place.check_opened("embedding", files)
        else:
            with pytest.raises(Violation, match="unlisted"):
                place.check_opened("embedding", files)
        place.restore("embedding", files)
    assert {path.name for path in (tmp_path / "embedding").iterdir()} == place.originals["embedding"].keys()


def test_opened_files_are_seen_once(tmp_path: Path) -> None:
    opened = OpenedFiles()
    opened.add(tmp_path)
    (tmp_path / "a").write_text("x")
    assert opened.take() == {tmp_path / "a"}
    assert opened.take() == set()


def test_sizes_and_hashes_are_stated_as_an_attacker_would(tmp_path: Path) -> None:
    files = dict(Workplace(tmp_path).originals["embedding"])
    files["tokenizer.json"] = b"{}"
    state_files(files)
    assert manifest_of(files)["files"]["tokenizer.json"]["bytes"] == 2
    assert isinstance(files[MANIFEST], bytes)


def test_a_slow_call_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzzing.outcomes.MAX_SECONDS", 0.0)
    with pytest.raises(Violation, match="too slow"), limited("opening"):
        check_message("a message")


def test_the_command_prints_one_summary(tmp_path: Path) -> None:
    arguments = ["--kind", "lines", "--kind", "archives", "--cases", "2", "--output", str(tmp_path)]
    command = [sys.executable, "-m", "fuzzing", *arguments]
    ended = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[1])
    summary = json.loads(ended.stdout)
    assert summary["passed"]
    assert [kind["cases"] for kind in summary["kinds"]] == [2, 2]
