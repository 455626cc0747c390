"""Every command of the pages runs, in a folder with small models and files of the names that the pages use."""

from __future__ import annotations

import importlib
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest
from onnxruntime.quantization import quantize_dynamic

from support import encoders
from support.cpu_features import needs_exact_int8
from support.multi_vector_encoders import save_multi_vector
from support.pages import PAGES, PROJECT, TUTORIALS, blocks, command_lines, commands, name_of

# Not by `from`: the package has the function of that name.
main = importlib.import_module("monograph.commands.main").main
DATA = PROJECT / "tests" / "data"
# Bundles of the pages -> those that stand for them.
BUNDLES = {
    "minilm-tokens": "embedding-tokens",
    **dict.fromkeys(("minilm", "labse", "labse-en-ru", "student"), "embedding"),
    **dict.fromkeys(("minilm-int8", "labse-int8"), "embedding-int8"),
    "minilm-both": "embedding-precisions",
    "reranker": "rerank",
    "splade": "sparse",
    "bge-m3": "embedding-hybrid",
    "colbert": "multi-vector",
}
# What is exported -> its names on the pages.
CHECKPOINTS = {
    "encoder": (
        "LaBSE",
        "path/to/LaBSE",
        "path/to/LaBSE-kbd",
        "path/to/bge-m3",
        "path/to/all-MiniLM-L6-v2",
        "path/to/paraphrase-multilingual-MiniLM-L12-v2",
        "path/to/teacher",
        "sentence-transformers/all-MiniLM-L6-v2",
    ),
    "cross-encoder": ("path/to/ms-marco-MiniLM-L6-v2", "path/to/cross-encoder"),
    "sparse-encoder": ("path/to/bert-mlm",),
    "multi-vector-encoder": ("path/to/colbertv2.0",),
}
# These need a network or a cluster, and the device a GPU. Like commands that install (pip), measure (`bench`, which
# tests/benchmarks runs) or do not end (`serve`), they are parsed, in test_docs.py, and not run.
ELSEWHERE = ("ORG/NAME", "ORG/NAME@REVISION", "cuda", "--ray")
SENTENCES = (PROJECT / "exporter" / "monograph_export" / "compression" / "sentences.txt").read_text("utf-8")


def sentences(language: str, count: int = 60) -> list[str]:
    """Return some of the built-in sentences of a language."""
    found = [line.partition("\t")[2] for line in SENTENCES.splitlines() if line.startswith(f"{language}\t")]
    assert found, language
    return found[:count]


def write_files(folder: Path) -> None:
    """Write the texts and data sets that the pages name."""
    english, other = sentences("en"), sentences("de")
    pairs = list(zip(english, other, strict=False))
    files = {
        "texts.txt": english,
        "documents.txt": english,
        "corpus.txt": english,
        "english.txt": english,
        "sentences.en": [one for one, _ in pairs],
        "texts.en": english,
        "sentences.de": [two for _, two in pairs],
        "sentences.ru": [two for _, two in pairs],
        "russian.txt": sentences("ru"),
        "bulgarian.txt": sentences("uk"),
        "pairs.tsv": [f"{one}\t{two}" for one, two in pairs],
        "sts.tsv": [f"{one}\t{two}\t{place % 5}" for place, (one, two) in enumerate(pairs)],
        "articles.jsonl": [json.dumps({"body": text}) for text in english],
        "queries.jsonl": [json.dumps({"query": one, "positive": [two], "negative": english[:3]}) for one, two in pairs],
        "tatoeba.fry-eng.fry": [one for one, _ in pairs],
        "tatoeba.fry-eng.eng": [two for _, two in pairs],
        "STS.input.track5.en-en.txt": [f"{one}\t{two}" for one, two in pairs],
        "STS.gs.track5.en-en.txt": [str(place % 5) for place in range(len(pairs))],
    }
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_tables(folder, english)
    for name in ("cranfield", "path/to/beir-folder"):
        write_retrieval(folder / name, english)
    for name in ("before.json", "today.json"):
        shutil.copy(PROJECT / "benchmarks" / "results" / "minilm.json", folder / name)


def write_tables(folder: Path, texts: list[str]) -> None:
    (folder / "data").mkdir()
    table = pyarrow.table({"id": range(len(texts)), "text": texts, "lang": ["en"] * len(texts)})
    pyarrow.parquet.write_table(table, folder / "data" / "0.parquet")
    pyarrow.csv.write_csv(table.rename_columns(["id", "body", "lang"]), folder / "articles.csv")


def write_retrieval(folder: Path, texts: list[str]) -> None:
    (folder / "qrels").mkdir(parents=True)
    records = [json.dumps({"_id": str(place), "title": "", "text": text}) for place, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(records), encoding="utf-8")
    (folder / "queries.jsonl").write_text("\n".join(records[:3]), encoding="utf-8")
    rows = ["query-id\tcorpus-id\tscore", *(f"{place}\t{place + 1}\t1" for place in range(3))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows), encoding="utf-8")


@pytest.fixture(scope="module")
def encoder_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that has its encoder as ONNX files, too."""
    folder = tmp_path_factory.mktemp("encoder") / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "onnx").mkdir()
    encoder = encoders.save_encoder(tiny_checkpoint, folder / "onnx" / "model.onnx")
    quantize_dynamic(encoder, folder / "onnx" / "model_quint8_avx2.onnx")
    return folder


@pytest.fixture(scope="module")
def tiny_multi_vector_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ColBERT."""
    return save_multi_vector("BERT", tmp_path_factory.mktemp("multi-vector-encoder"))


@pytest.fixture
def folder(
    tmp_path: Path,
    encoder_checkpoint: Path,
    tiny_cross_checkpoint: Path,
    tiny_sparse_checkpoint: Path,
    tiny_multi_vector_checkpoint: Path,
) -> Path:
    links = {name: DATA / target for name, target in BUNDLES.items()}
    for kind, target in (
        ("encoder", encoder_checkpoint),
        ("cross-encoder", tiny_cross_checkpoint),
        ("sparse-encoder", tiny_sparse_checkpoint),
        ("multi-vector-encoder", tiny_multi_vector_checkpoint),
    ):
        links |= dict.fromkeys(CHECKPOINTS[kind], target)
    for name, target in links.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    write_files(tmp_path)
    return tmp_path


def is_run(words: list[str]) -> bool:
    if words[0] != "monograph":
        return False
    return "--compare" in words or not set(words) & {"bench", "bench-server", "serve", *ELSEWHERE}


WITH_COMMANDS = [
    page
    for page in PAGES
    if page not in TUTORIALS and any(is_run(words) for line in command_lines(page) for words in commands(line))
]


def exports() -> dict[str, list[str]]:
    """Return the exports of all pages, by what is exported and how: what several show is one."""
    lines = (line for page in WITH_COMMANDS for line in command_lines(page) if line.startswith("monograph export "))
    found = {}
    for words in (shlex.split(line, comments=True) for line in lines):
        if is_run(words):
            kind = next((kind for kind, names in CHECKPOINTS.items() if words[2] in names), words[2])
            found[" ".join([kind, *words[4:]])] = words
    return found


# What is exported with every option has tests of its own: of these, one of each kind runs by day, and int8.
BY_DAY = {next(kind for kind in exports() if kind.split()[0] == one) for one in CHECKPOINTS} | {
    "encoder --precision int8"
}


def marks(kind: str) -> list[pytest.MarkDecorator]:
    """Return the marks of an export beside that of slow tests."""
    return [needs_exact_int8] if kind.startswith("cross-encoder --precision int8") else []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=kind, marks=marks(kind) if kind in BY_DAY else [*marks(kind), pytest.mark.slow])
        for kind, words in exports().items()
    ],
)
def test_exports_run(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The small checkpoint is not the one of a recipe, and is refused with one."""
    monkeypatch.chdir(folder)
    if "--reproduce" in words:
        output = words[words.index("--reproduce") + 1]
        remove(Path(output))
        assert main(["export", words[2], output]) == 0
    else:
        remove(Path(words[3]))
    code = main(words[1:])
    error = capsys.readouterr().err
    if "--recipe" in words:
        assert code == 1
        assert "the checkpoint is not of recipe" in error
    else:
        assert code == 0, error


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_commands_run(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a page does with the bundles that it exports; the exports have a test of their own."""
    monkeypatch.chdir(folder)
    for line in command_lines(page):
        if not all(is_run(words) or words[0] == "head" for words in commands(line)):
            continue
        words = shlex.split(line, comments=True)
        if words[1] == "export":
            continue
        if words[1] == "unpack":
            remove(Path(words[3]))
        if "|" in words or ">" in words:
            run_in_shell(line)
        else:
            assert main(words[1:]) == 0, (line, capsys.readouterr().err)


def remove(output: Path) -> None:
    if output.is_symlink():
        output.unlink()
    elif output.exists():
        shutil.rmtree(output)


def run_in_shell(line: str) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/bash", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (line, done.stderr)


def test_the_similarities_of_the_quickstart_are_minilms(
    minilm_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "minilm").symlink_to(minilm_bundle)
    monkeypatch.chdir(tmp_path)
    shown = "\n".join(blocks(PROJECT / "docs" / "quickstart.md", "console")).splitlines()
    place = next(place for place, line in enumerate(shown) if "similarity minilm" in line and "--device cpu" in line)
    assert main(shlex.split(shown[place])[2:]) == 0
    assert capsys.readouterr().out.splitlines() == shown[place + 1 : place + 4]
