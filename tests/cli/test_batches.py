"""The bound of tokens that commands pass on to the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph.batching import plan_batches
from monograph.commands.main import main
from monograph.inference import pipeline

TEXTS = "".join(f"{'harbour ' * words}\n" for words in (1, 1, 1, 2, 3, 5, 8, 30))


@pytest.mark.parametrize(
    ("bundle", "command"),
    [
        ("tiny_bundle", ["embed", "{}", "{file}"]),
        ("tiny_sparse_bundle", ["embed", "{}", "{file}"]),
        ("tiny_cross_bundle", ["rank", "{}", "sea", "{file}"]),
    ],
    ids=["embed", "sparse", "rank"],
)
def test_batches_of_a_command_stay_within_the_bound(
    bundle: str,
    command: list[str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = request.getfixturevalue(bundle)
    batches: list[tuple[int, int]] = []

    def noted(lengths: NDArray[np.int64], *rest: Any, **named: Any) -> Iterator[NDArray[np.intp]]:
        for rows in plan_batches(lengths, *rest, **named):
            batches.append((len(rows), int(lengths[rows].max())))
            yield rows

    monkeypatch.setattr(pipeline, "plan_batches", noted)
    file = tmp_path / "texts.txt"
    file.write_text(TEXTS)
    words = [word.format(folder, file=file) for word in command]
    # The bound is this many tokens; the longest text has more.
    assert main([*words, "--device", "cpu", "--batch-size", "5", "--max-tokens-per-batch", "48"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 6
    assert all(rows == 1 or rows * longest <= 48 for rows, longest in batches)
    assert max(rows for rows, _ in batches) > 1
    assert max(longest for _, longest in batches) > 48
