"""Export a bundle of LaBSE's layers for three languages at int8: python javascript/scripts/labse_bundle.py BUNDLE DATA.

The weights are random; 12 layers of 768 dimensions, Dense with Tanh and the class token are LaBSE's. The vocabulary is
that of smaller-LaBSE, pruned to what the English, German and Russian sentences of Tatoeba need. DATA is the folder with
``labse-smaller-vocab`` and ``tatoeba-laser``.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from monograph_export.recipes import read_recipe  # noqa: E402
from support.checkpoints import from_recipe  # noqa: E402

LANGUAGES = ("deu-eng.eng", "deu-eng.deu", "rus-eng.rus")
# Random weights lose more by int8 than trained ones.
UNGATED = ("--min-mean-cosine", "0", "--min-worst-cosine", "-1", "--min-neighbour-agreement", "0")


def main(bundle: Path, data: Path) -> None:
    """Build the checkpoint in a temporary folder, and export it."""
    vocabulary = data / "labse-smaller-vocab" / "vocab.txt"
    recipe = read_recipe("LaBSE")
    rows = len(vocabulary.read_text(encoding="utf-8").splitlines())
    config = {**recipe.architecture["config"], "vocab_size": rows}
    recipe = dataclasses.replace(recipe, architecture={**recipe.architecture, "config": config})
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = from_recipe(recipe, Path(folder), vocabulary)
        files = [str(data / "tatoeba-laser" / f"tatoeba.{name}") for name in LANGUAGES]
        texts = [part for file in files for part in ("--keep-vocab", file)]
        command = [sys.executable, "-m", "monograph", "export", str(checkpoint), str(bundle), "--precision", "int8"]
        subprocess.run([*command, *texts, *UNGATED], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
