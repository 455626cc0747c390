"""A hook of mkdocs: what the site has beside the files of docs/.

CONTRIBUTING.md, CHANGELOG.md, SECURITY.md and the examples appear as pages without being copied, and images of the
repository are copied into the built site.
"<!-- include: FILE: NAME -->" stands for the part of another file that "<!-- begin: NAME -->" and "<!-- end: NAME -->"
enclose, "<!-- command line -->" for the arguments of all commands, written from their parsers. Between
"<!-- in a checkout -->" and "<!-- end -->" stands what the site leaves out. Links are those between
files of the repository, so that they also work there; a link to an included file becomes one to its page.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import posixpath
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parents[1]
# Files of the repository -> pages of the site.
INCLUDED = {
    "CHANGELOG.md": "contributing/changelog.md",
    "CONTRIBUTING.md": "contributing/guide.md",
    "SECURITY.md": "contributing/security.md",
    **{f"examples/{file.name}": f"examples/{file.stem}.md" for file in sorted((PROJECT / "examples").glob("*.py"))},
}
# Files of the repository that pages show, at the same place in the site.
COPIED = ("benchmarks/results/minilm.svg",)
# Pages that have nearly every word: others come first in a search.
LATE_IN_SEARCH = ("reference/errors.md", "contributing/guide.md", "contributing/changelog.md")
COMMAND_LINE = "<!-- command line -->"
# The order of the commands on their page; any other command follows.
ORDER = (
    "export",
    "embed",
    "similarity",
    "rank",
    "info",
    "verify",
    "eval",
    "bench",
    "prepare",
    "pack",
    "unpack",
    "plan",
)
_IN_A_CHECKOUT = re.compile(r"<!-- in a checkout -->.*?<!-- end -->\n", re.DOTALL)
_INCLUDE = re.compile(r"<!-- include: (\S+): (.+) -->")
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the images that are not files of docs/."""
    for source, page in INCLUDED.items():
        text = (PROJECT / source).read_text("utf-8")
        files.append(
            File.generated(config, page, content=text if source.endswith(".md") else example_page(source, text))
        )
    for source in COPIED:
        files.append(File.generated(config, source, abs_src_path=str(PROJECT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Include parts of other files, and rewrite the links to files of the repository that are pages of the site."""
    markdown = _IN_A_CHECKOUT.sub("", markdown)
    markdown = _INCLUDE.sub(lambda match: part_of(PROJECT / match[1], match[2]), markdown)
    if COMMAND_LINE in markdown:
        markdown = markdown.replace(COMMAND_LINE, command_line())
    pages = {page_: source for source, page_ in INCLUDED.items()}
    path = page.file.src_uri
    if path in LATE_IN_SEARCH:
        page.meta["search"] = {"boost": 0.5}
    return relink(markdown, path, posixpath.dirname(pages.get(path, f"docs/{path}")))


def part_of(file: Path, name: str) -> str:
    """Return the part of a file that the marks with a name enclose."""
    _, begin, rest = file.read_text("utf-8").partition(f"<!-- begin: {name} -->\n")
    part, end, _ = rest.partition(f"<!-- end: {name} -->")
    if not begin or not end:
        raise PluginError(f"{file.name} has no part {name!r} between marks")
    return part


def relink(markdown: str, page: str, folder: str) -> str:
    """Return a page's text with links from its place in the site, where they are from ``folder`` of the repository."""

    def place(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        file = posixpath.normpath(posixpath.join(folder, target))
        uri = INCLUDED.get(file, file.removeprefix("docs/"))
        return f"{match[1]}{posixpath.relpath(uri, posixpath.dirname(page) or '.')}{match[3]}"

    # Code stands at the odd places, and has no links.
    parts = _FENCED.split(markdown)
    return "".join(part if number % 2 else _LINK.sub(place, part) for number, part in enumerate(parts))


def example_page(source: str, code: str) -> str:
    """Return the page of an example."""
    title = Path(source).stem.replace("_", " ").capitalize()
    return f"# {title}\n\n`{source}` in the repository.\n\n```python\n{code.rstrip()}\n```\n"


def command_line() -> str:
    """Return usage, arguments and options of every command."""
    # Not by `from`: the package has the function of that name.
    main = importlib.import_module("monograph.commands.main")
    parser = main._parser(["--help"])
    commands = _commands(parser)
    lines = [
        *_options(parser, hidden=()),
        "",
        "Every command has these options, too.",
    ]
    common = [option for action in parser._actions for option in action.option_strings]
    for name in sorted(commands, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        sub = commands[name]
        sub.formatter_class = functools.partial(argparse.HelpFormatter, width=82)
        usage = sub.format_usage().removeprefix("usage: ").rstrip()
        lines += ["", f"## monograph {name}", "", f"{_sentence(sub.description or '')}", ""]
        lines += [
            "```text",
            *(line.removeprefix("       ") for line in usage.splitlines()),
            "```",
            "",
            *_options(sub, common),
        ]
    return "\n".join(lines) + "\n"


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(subparsers.choices)


def _options(parser: argparse.ArgumentParser, hidden: Collection[str]) -> Iterator[str]:
    """Yield a table of a parser's arguments, then its options; those that are ``hidden`` stand elsewhere."""
    every = (action for action in parser._actions if not isinstance(action, argparse._SubParsersAction))
    shown = [action for action in every if not {*action.option_strings} & {*hidden}]
    yield from ("| argument | meaning |", "|---|---|")
    for action in sorted(shown, key=lambda action: bool(action.option_strings)):
        words = (action.help or "") % _values(action)
        yield f"| {_names(action)} | {_cell(words)} |"


def _names(action: argparse.Action) -> str:
    choices = None if action.choices is None else ",".join(map(str, action.choices))
    metavar = action.metavar if isinstance(action.metavar, str) else None
    value = metavar or (f"{{{choices}}}" if choices else action.dest.upper())
    if not action.option_strings:
        return f"`{value}`"
    written = "" if action.nargs == 0 else f" {value}"
    return ", ".join(f"`{option}{written}`" for option in action.option_strings)


def _values(action: argparse.Action) -> dict[str, Any]:
    return {**vars(action), "prog": "monograph"}


def _cell(text: str) -> str:
    return text.replace("|", "&#124;").replace("\n", " ")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
