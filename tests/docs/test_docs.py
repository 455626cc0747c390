"""The documentation is true: commands parse, code runs, links lead somewhere, quoted messages are in the code."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from monograph.engines.registry import compute_dtype_names, engines
from monograph.tasks import tasks
from support.pages import (
    DOCS,
    ERRORS_PAGE,
    FORMAT_PAGE,
    FRAMEWORKS_PAGE,
    PAGES,
    PROJECT,
    SITE,
    TUTORIALS,
    blocks,
    command_lines,
    commands,
    name_of,
    prose,
)

# Not by `from`: the package has the function of that name.
main = importlib.import_module("monograph.commands.main")
SOURCES = [PROJECT / "runtime", PROJECT / "exporter", PROJECT / "benchmarks"]
# The names that the pages give their bundles; what is shown of them holds for any model.
BUNDLES = ("minilm", "labse", "labse-en-ru")
DATA = PROJECT / "tests" / "data"
# Options of other programs.
FOREIGN_OPTIONS = {"--preload", "--upgrade", "--start", "--webgpu", "--rows"}
# What reads a key of a JSON object: the methods of monograph.fields.Fields.
READERS = ("need", "maybe", "has", "number", "strings", "integers", "inputs", "string_map", "child", "children")

pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pages
def test_commands_parse(page: Path) -> None:
    for words in (words for line in command_lines(page) for words in commands(line)):
        if words[0] != "monograph":
            continue
        try:
            main._parser(words[1:]).parse_args(words[1:])
        except SystemExit as end:
            pytest.fail(f"{shlex.join(words)} is bad usage ({end.code})")


@pages
def test_scripts_and_extras_exist(page: Path) -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for words in (words for line in command_lines(page) for words in commands(line)):
        if "/" in words[0]:
            assert (PROJECT / words[0]).is_file(), words
    for named in re.findall(r"(?:monograph|\.)\[([a-z,-]+)\]", page.read_text("utf-8")):
        assert set(named.split(",")) <= extras.keys(), named


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        file, _, place = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert linked.is_relative_to(PROJECT), target
        if place:
            assert place in headings(linked), target


def test_the_device_table_names_every_engine_and_compute_dtype() -> None:
    """A new engine fails this until the table of devices has it, in the types of its registration."""
    section = (DOCS / "how-to" / "choose-a-device.md").read_text("utf-8").partition("\n##")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith('| `"')]
    for entry in engines():
        cells = [cells for cells in rows if re.search(rf'`"{re.escape(entry.kind)}[":]', cells[0])]
        assert cells, entry.kind
        named = " ".join(" ".join(row) for row in cells)
        fixed = {dtype for dtype in entry.precisions.values() if dtype is not None}
        dtypes = fixed | set(re.findall(r"b?float\d+", entry.summary))
        assert {dtype for dtype in dtypes if not re.search(rf"\b{dtype}\b", named)} == set(), entry.kind
    table = " ".join(row[2] for row in rows)
    assert [name for name in compute_dtype_names() if name != "auto" and name not in table] == []


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", SITE, ids=name_of)
def test_options_that_the_text_names_exist(page: Path) -> None:
    known: set[str] = set()
    for name in (
        "embed",
        "similarity",
        "rank",
        "info",
        "verify",
        "pack",
        "unpack",
        "prepare",
        "plan",
        "export",
        "publish",
        "serve",
        "bench",
        "bench-server",
        "eval",
    ):
        parser = main._parser([name])
        subparsers = next(action for action in parser._actions if action.dest == "command")
        assert isinstance(subparsers.choices, dict)
        known |= subparsers.choices[name]._option_string_actions.keys()
    quoted = " ".join(re.findall(r"`([^`\n]+)`", prose(page)))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]\b(?!-…)", quoted))
    assert named <= known | FOREIGN_OPTIONS


@pages
def test_python_compiles(page: Path) -> None:
    for number, block in enumerate(blocks(page, "python")):
        compile(block, f"{page.name} block {number}", "exec")


# The worked reader is a program, which runs below.
# What other frameworks are needed for runs in their environments, by tests/integrations.
ELSEWHERE = (FORMAT_PAGE, FRAMEWORKS_PAGE, *TUTORIALS)
RUNNABLE = [page for page in PAGES if blocks(page, "python") and page not in ELSEWHERE]


@pytest.fixture
def examples_folder(minilm_bundle: Path, tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A folder with what the pages' Python names: the real MiniLM, small models of other tasks, a checkpoint, texts."""
    links = dict.fromkeys(BUNDLES, minilm_bundle) | {
        "reranker": DATA / "rerank",
        "splade": DATA / "sparse",
        "colbert": DATA / "multi-vector",
        "bge-m3": DATA / "embedding-hybrid",
        "minilm-tokens": DATA / "embedding-tokens",
        "minilm-both": DATA / "embedding-precisions",
    }
    links["path/to/model"] = tiny_checkpoint
    for name, target in links.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    corpus = ["The boats lie in the harbour.", "", "The café opens at nine.", "A lighthouse warns ships."]
    (tmp_path / "corpus.txt").write_text("".join(f"{text}\n" for text in corpus), "utf-8")
    return tmp_path


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_python_runs(page: Path, examples_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's blocks run one by one, each by itself, where the bundles and checkpoints that they name are."""
    monkeypatch.chdir(examples_folder)
    for number, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page.name} block {number}", "exec"), {"__name__": f"{page.stem}_{number}"})  # noqa: S102


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worked example of the bundle format, as a file."""
    (code,) = blocks(FORMAT_PAGE, "python")
    imported = {
        (node.module or "").partition(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert imported - sys.stdlib_module_names == {"numpy", "onnxruntime", "tokenizers"}
    file = tmp_path_factory.mktemp("reader") / "reader.py"
    file.write_text(code, encoding="utf-8")
    return file


def read(reader: Path, bundle: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(reader), str(bundle)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("fixture", ["tiny_bundle", pytest.param("minilm_bundle", marks=pytest.mark.slow)])
def test_the_worked_reader_reproduces_the_probes(fixture: str, reader: Path, request: pytest.FixtureRequest) -> None:
    done = read(reader, request.getfixturevalue(fixture))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the reader reproduces the probes"


def test_the_worked_reader_refuses_a_damaged_bundle(reader: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    for file in tiny_bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.onnx.data"
    weights.write_bytes(bytes(weights.stat().st_size))
    (tmp_path / "tokenizer.json").unlink()
    done = read(reader, tmp_path)
    assert done.returncode == 1
    assert "model.onnx.data was changed" in done.stderr
    assert "tokenizer.json is missing" in done.stderr


def test_the_format_page_names_every_key_of_the_manifest() -> None:
    """The fields of the manifest's and the tasks' dataclasses, and what is read by name beside them."""
    page = FORMAT_PAGE.read_text("utf-8")
    folder = PROJECT / "runtime" / "monograph"
    files = [*sorted((folder / "bundle").glob("manifest*.py")), folder / "quality.py"]
    keys: set[object] = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))):
        if isinstance(node, ast.ClassDef):
            fields = (field.target for field in node.body if isinstance(field, ast.AnnAssign))
            keys |= {target.id for target in fields if isinstance(target, ast.Name)}
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
            keys |= {element.value for element in node.iter.elts if isinstance(element, ast.Constant)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READERS:
            keys |= {first.value for first in node.args[:1] if isinstance(first, ast.Constant)}
    # In the file a task's section has the task's name.
    keys.remove("section")
    for task in tasks():
        types: tuple[type[Any], ...] = (task.section_type, task.agreement_type)
        keys |= {field.name for kind in types for field in dataclasses.fields(kind)}
        keys.add(task.name)
    assert len(keys) > 90
    assert {key for key in keys if f"`{key}`" not in page} == set()


def messages() -> list[str]:
    """Return the literal strings of the source tree, with "…" where a value is put in; named constants are put in."""
    trees = [ast.parse(file.read_text("utf-8")) for folder in SOURCES for file in folder.rglob("*.py")]
    constants = {
        target.id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    texts = []
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(part_of(value, constants) for value in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return texts


def part_of(value: ast.expr, constants: dict[str, str]) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    if isinstance(value, ast.FormattedValue) and isinstance(value.value, ast.Name):
        return constants.get(value.value.id, "…")
    return "…"


def test_quoted_messages_are_in_the_code() -> None:
    page = ERRORS_PAGE.read_text("utf-8")
    # A first cell may quote several messages.
    cells = re.findall(r"^\| (`[^|]+`) \| .* \| .* \|$", page, re.MULTILINE)
    quoted = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell) if not message.endswith("Error")]
    assert len(quoted) > 50
    known = messages()
    assert [message for message in quoted if not any(message in text for text in known)] == []


def test_every_error_class_is_explained() -> None:
    page = ERRORS_PAGE.read_text("utf-8")
    code = ast.parse((PROJECT / "runtime" / "monograph" / "errors.py").read_text("utf-8"))
    classes = {node.name for node in code.body if isinstance(node, ast.ClassDef)}
    assert {name for name in classes if f"`{name}`" not in page and f"`monograph.{name}`" not in page} == set()
