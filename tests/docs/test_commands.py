"""Every command of the pages runs, in a folder with small models and files of the names that the pages use."""

from __future__ import annotations

import importlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pages import PAGES, PROJECT, blocks, command_lines, commands, name_of

# Not by `from`: the package has the function of that name.
main = importlib.import_module("monograph.commands.main").main
DATA = PROJECT / "tests" / "data"
# Bundles of the pages -> those that stand for them.
BUNDLES = {
    **dict.fromkeys(("minilm", "labse", "labse-en-ru"), "embedding"),
    **dict.fromkeys(("minilm-int8", "labse-int8"), "embedding-int8"),
    "reranker": "rerank",
    "splade": "sparse",
}
RERANKERS = ("path/to/ms-marco-MiniLM-L6-v2", "path/to/cross-encoder")
SPARSE = ("path/to/bert-mlm",)
ENCODERS = (
    "LaBSE",
    "path/to/LaBSE",
    "path/to/LaBSE-kbd",
    "path/to/all-MiniLM-L6-v2",
    "path/to/paraphrase-multilingual-MiniLM-L12-v2",
    "path/to/teacher",
    "sentence-transformers/all-MiniLM-L6-v2",
)
# What is not run: programs that install or measure, and what needs a network. These parse (test_docs.py), and
# tests/benchmarks runs `bench`.
NOT_RUN = ("pip", "cd", "python", "numpy")
OF_A_HUB = ("ORG/NAME", "ORG/NAME@REVISION")
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
        **dict.fromkeys(("texts.txt", "documents.txt", "corpus.txt", "english.txt"), english),
        **dict.fromkeys(("sentences.en", "texts.en"), [one for one, _ in pairs]),
        **dict.fromkeys(("sentences.de", "sentences.ru"), [two for _, two in pairs]),
        "russian.txt": sentences("ru"),
        "bulgarian.txt": sentences("bg"),
        "mixed.txt": [*english, *other, *sentences("ru")],
        "pairs.tsv": [f"{one}\t{two}\t{place % 5}" for place, (one, two) in enumerate(pairs)],
        "articles.jsonl": [json.dumps({"body": text}) for text in english],
        "queries.jsonl": [json.dumps({"query": one, "positive": [two], "negative": english[:3]}) for one, two in pairs],
        "tatoeba.fry-eng.fry": [one for one, _ in pairs],
        "tatoeba.fry-eng.eng": [two for _, two in pairs],
        "STS.input.track5.en-en.txt": [f"{one}\t{two}" for one, two in pairs],
        "STS.gs.track5.en-en.txt": [str(place % 5) for place in range(len(pairs))],
    }
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("cranfield", "path/to/beir-folder"):
        write_retrieval(folder / name, english)
    for name in ("before.json", "today.json"):
        shutil.copy(PROJECT / "benchmarks" / "results" / "minilm.json", folder / name)


def write_retrieval(folder: Path, texts: list[str]) -> None:
    (folder / "qrels").mkdir(parents=True)
    records = [json.dumps({"_id": str(place), "title": "", "text": text}) for place, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(records), encoding="utf-8")
    (folder / "queries.jsonl").write_text("\n".join(records[:3]), encoding="utf-8")
    rows = ["query-id\tcorpus-id\tscore", *(f"{place}\t{place + 1}\t1" for place in range(3))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows), encoding="utf-8")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, ...], Path]]:
    """Bundles by the arguments that they were exported with: what several pages show runs once."""
    yield {}


@pytest.fixture
def folder(
    tmp_path: Path, tiny_checkpoint: Path, tiny_cross_checkpoint: Path, tiny_sparse_checkpoint: Path, tiny_bundle: Path
) -> Path:
    links = {name: DATA / target for name, target in BUNDLES.items()}
    links["student"] = tiny_bundle
    for names, target in (
        (ENCODERS, tiny_checkpoint),
        (RERANKERS, tiny_cross_checkpoint),
        (SPARSE, tiny_sparse_checkpoint),
    ):
        links |= dict.fromkeys(names, target)
    for name, target in links.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    write_files(tmp_path)
    return tmp_path


def is_run(words: list[str]) -> bool:
    if words[0] != "monograph":
        return False
    return "bench" not in words[:3] and not set(words) & set(OF_A_HUB) or "--compare" in words


WITH_COMMANDS = [
    page for page in PAGES if any(is_run(words) for line in command_lines(page) for words in commands(line))
]


@pytest.mark.usefixtures("verified_on_cpu")
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_commands_run(
    page: Path,
    folder: Path,
    exported: dict[tuple[str, ...], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    for line in command_lines(page):
        if not all(is_run(words) or words[0] in ("head",) for words in commands(line)):
            continue
        # A page makes a bundle that is here under its name.
        words = shlex.split(line.partition(" #")[0])
        if words[1] in ("export", "unpack"):
            Path(words[3]).unlink(missing_ok=True)
        if "|" in words or ">" in words:
            run_in_shell(line)
        elif words[1] == "export":
            run_export(words[1:], exported, capsys)
        else:
            code = main(words[1:])
            assert code == 0, (line, capsys.readouterr().err)


def run_in_shell(line: str) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (line, done.stderr)


def run_export(words: list[str], exported: dict[tuple[str, ...], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Run an export; the small checkpoint is not the one of a recipe, which is then said."""
    output = Path(words[2])
    key = (str(Path(words[1]).resolve()), *words[3:])
    if key in exported:
        shutil.copytree(exported[key], output)
        return
    code = main(words)
    if "--recipe" in words:
        assert code == 1
        assert "the checkpoint is not of recipe" in capsys.readouterr().err
        # What follows is of the bundle.
        shutil.copytree(DATA / "embedding", output, dirs_exist_ok=True)
    else:
        assert code == 0, (words, capsys.readouterr().err)
        exported[key] = output.resolve()


def test_the_similarities_of_the_quickstart_are_minilms(
    minilm_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "minilm").symlink_to(minilm_bundle)
    monkeypatch.chdir(tmp_path)
    shown = "\n".join(blocks(PROJECT / "docs" / "quickstart.md", "console")).splitlines()
    place = next(place for place, line in enumerate(shown) if "similarity minilm" in line and "--device cpu" in line)
    assert main(shlex.split(shown[place])[2:]) == 0
    assert capsys.readouterr().out.splitlines() == shown[place + 1 : place + 4]
