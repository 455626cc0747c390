"""Make a checkpoint of a recipe's architecture and size with random weights, to try what depends on the size alone.

Its vectors have no meaning. The vocabulary has the tokens that WordPiece learns from the project's own sentences in 37
languages, and as many unused ones as the recipe's table has rows beside them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from monograph.errors import ExportError
from monograph_export import compression
from monograph_export.recipes import read_recipe
from monograph_export.text_files import read_sentences
from support.checkpoints import from_recipe, wordpiece

_SENTENCES = ("sentences.txt", "calibration_sentences.txt")
_LEARNED = 20_000


def built_in_sentences() -> list[str]:
    """Return the project's own sentences, in all languages."""
    return [sentence for name in _SENTENCES for sentence in read_sentences(compression.__name__, name)]


def write_vocabulary(file: Path, size: int, lowercase: bool) -> None:
    """Write a WordPiece vocabulary of so many tokens, one a line."""
    vocabulary = wordpiece(min(_LEARNED, size), lowercase, built_in_sentences()).get_vocab()
    learned = sorted(vocabulary, key=lambda token: vocabulary[token])
    unused = (f"[unused{number}]" for number in range(size - len(learned)))
    file.write_text("\n".join([*learned, *unused]) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/random-checkpoint", description=__doc__)
    parser.add_argument("recipe", metavar="RECIPE", help="of models/, with a WordPiece tokenizer: LaBSE")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="to write")
    arguments = parser.parse_args()
    try:
        recipe = read_recipe(arguments.recipe)
    except ExportError as error:
        parser.error(str(error))
    if recipe.architecture["tokenizer"] != "WordPiece":
        kind = recipe.architecture["tokenizer"]
        parser.error(f"{arguments.recipe} has a {kind} tokenizer: name a recipe with a WordPiece tokenizer")
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists: name a new folder")
    arguments.folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that it can be renamed.
    with tempfile.TemporaryDirectory(dir=arguments.folder.parent) as place:
        vocabulary = Path(place) / "vocab.txt"
        shape = recipe.architecture
        write_vocabulary(vocabulary, shape["config"]["vocab_size"], shape["lowercase"])
        shutil.move(from_recipe(recipe, Path(place), vocabulary), arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
