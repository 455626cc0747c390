"""Why a checkpoint's tokenizer cannot be loaded, in one line: the package that is missing, the file that is damaged."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version
from pathlib import Path

from monograph_export.checkpoint.checkpoint import read_optional_object
from monograph_export.checkpoint.module_settings import TOKENIZER_CONFIG
from monograph_export.checkpoint.rust_tokenizer import VOCABULARY_FILES
from monograph_export.foreign_errors import causes, plain_line

# What transformers says where it finds neither tokenizer nor processor; why is not in the error.
_NO_PROCESSOR = re.compile(r"Unrecognized processing class|processor|tokenizer", re.IGNORECASE)
_NEEDED = re.compile(r"(?:need to install|requires the) (\w+)")
# By the names of their modules.
_PACKAGES = {"google": "protobuf", "SentencePiece": "sentencepiece", "tiktoken": "tiktoken"}
_VOCABULARIES = ("tokenizer.json", "vocab*", "*vocab.json", "merges.txt", "*.model", "*.tiktoken", "tekken.json",
                 "bpe.codes", "*.vocab")  # fmt: skip
_SENTENCEPIECE = ("sentencepiece", "protobuf")
_MODULES = {"protobuf": "google.protobuf"}


def tokenizer_problem(error: Exception, transformer: Path) -> str | None:
    """Return in one line why a checkpoint could not be loaded, None where that is neither a package nor its tokenizer.

    ``transformer`` is the folder of its tokenizer.
    """
    if package := _missing_package(error):
        return f"it {_needs(package)}"
    return _tokenizer_problem(transformer) if _NO_PROCESSOR.search(str(error)) else None


def _tokenizer_problem(folder: Path) -> str | None:
    """Return why transformers cannot load a folder's tokenizer, None where it can."""
    from transformers import AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - the error is what is looked for
        return _explain(error, folder)
    return None


def _explain(error: Exception, folder: Path) -> str:
    config = read_optional_object(folder / TOKENIZER_CONFIG)
    if "AutoTokenizer" in (config.get("auto_map") or {}):
        return f"its tokenizer needs code of its own (auto_map in {TOKENIZER_CONFIG}), and no code of it is run"
    if not any(True for pattern in _VOCABULARIES for _ in folder.glob(pattern)):
        return f"its vocabulary is missing ({VOCABULARY_FILES}): the checkpoint is incomplete, so download it again"
    package = _missing_package(error)
    # transformers takes every .model for one of tiktoken where sentencepiece is missing.
    models = [file for file in folder.glob("*.model") if file.name != "tiktoken.model"]
    if models and (missing := [name for name in _SENTENCEPIECE if not _is_installed(_MODULES.get(name, name))]):
        return f"{models[0].name} {_needs(*missing)}"
    if models and package == "tiktoken":
        return (
            f"transformers cannot read {models[0].name}: it is damaged or no sentencepiece model, so download it again"
        )
    if package:
        return " ".join(["its tokenizer", *filter(None, [config.get("tokenizer_class")]), _needs(package)])
    if "instantiate the backend tokenizer" in str(error):
        return (
            f"transformers {version('transformers')} cannot make its tokenizer {config.get('tokenizer_class', '')} of "
            "the files that it has: load it where it can be, and save it as tokenizer.json (save_pretrained)"
        )
    if "untagged enum" in str(error):
        return (
            f"tokenizers {version('tokenizers')} cannot read its tokenizer.json "
            f"({plain_line(error)}): a newer release may have written it, so pip install -U "
            "tokenizers transformers"
        )
    return f"transformers cannot load its tokenizer: {plain_line(error)}"


def _needs(*packages: str) -> str:
    return f"needs {' and '.join(packages)}, not installed here: pip install {' '.join(packages)}"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _missing_package(error: BaseException) -> str | None:
    """Return the package whose absence an error, or one behind it, is about."""
    # The first cause first.
    for one in reversed([*causes(error, contexts=True)]):
        if isinstance(one, ModuleNotFoundError) and one.name:
            top = one.name.partition(".")[0]
            return _PACKAGES.get(top, top)
        if isinstance(one, ImportError) and (found := _NEEDED.search(str(one))):
            return _PACKAGES.get(found[1], found[1].lower())
    return None
