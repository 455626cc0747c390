"""The checkpoint's file is mapped while its weights are needed, and no longer: its pages count as resident."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monograph.progress import Progress, Step
from monograph_export import export
from support.checkpoints import tiny

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class MappedFiles(Progress):
    """Notes at the beginning of each step whether a file is mapped."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)
        self.at: dict[str, bool] = {}

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:  # noqa: ARG002
        self.at[name] = self._file in Path("/proc/self/maps").read_text()
        yield Step()


@pytest.mark.parametrize(
    ("table", "last"),
    [("fp32", "Writing the weights"), ("int8", "Quantizing the table of token embeddings")],
)
@pytest.mark.slow
def test_checkpoint_is_unmapped_before_the_verification(table: str, last: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, pooling="cls")
    steps = MappedFiles(checkpoint / "model.safetensors")
    export(checkpoint, tmp_path / "bundle", table=table, min_neighbour_agreement=0, show_progress_bar=steps)
    names = list(steps.at)
    while_mapped = [name for name in names if steps.at[name]]
    assert while_mapped == names[1 : names.index(last) + 1]
