"""What a run measures, on which device, and how much of it; passed to the process of each stage as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

# The options of a run that one device decides: shapes, texts of a workload, rounds, texts of the growth.
DEFAULTS = {"cuda": ("full", 8192, 5, 100_000), "cpu": ("small", 48, 2, 1000)}


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Attributes:
        device: "cuda" or "cpu"; the latter shows that the script works, and measures nothing of worth.
        work: Folder of checkpoints and bundles.
        output: Folder of the results, a JSON file a stage.
        checkpoint: A checkpoint's folder in place of the one of MiniLM's shape, "" for that.
        shapes: "full", the published models' sizes; or "small", the same heads and modules with two narrow layers.
        texts: The texts of about 16 tokens in one call; there are fewer of longer ones.
        rounds: Interleaved rounds of all systems, at most.
        growth: The texts over which memory is watched.

    """

    device: str
    work: str
    output: str
    checkpoint: str
    shapes: str
    texts: int
    rounds: int
    growth: int

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    @property
    def folder(self) -> Path:
        """The folder of checkpoints and bundles."""
        return Path(self.work)

    def write(self, file: Path) -> None:
        """Write the settings to a file."""
        file.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, file: Path) -> Settings:
        """Read what ``write`` wrote."""
        return cls(**json.loads(file.read_text("utf-8")))
