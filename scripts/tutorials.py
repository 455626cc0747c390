"""Run the tutorials of docs/tutorials from their text: every command and file of a page, in order.

A page is run in a copy of the working tree in a new temporary folder, as a reader would in a fresh checkout. What it
shows is compared with what is printed. The copy's .venv borrows the packages of this checkout's; with --fresh there is
none, and the page's own scripts/environment installs everything.
For root where sudo is not installed, `sudo COMMAND` runs the command itself.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tutorial_page import (
    Browsing,
    Console,
    PageError,
    SavedFile,
    Step,
    TerminalPicture,
    Tutorial,
    difference,
    read_tutorial,
)
from tutorial_shell import CommandTimeoutError, Shell

PROJECT = Path(__file__).resolve().parents[1]
PAGES = PROJECT / "docs" / "tutorials"
PICTURES = PROJECT / "docs" / "assets" / "tutorials"
LOGS = PROJECT / "build" / "tutorials"
MAX_PICTURE_BYTES = 150_000
_PACKAGES = ("runtime", "exporter", "benchmarks")
_WIDTH = 900
_SUDO = """#!/bin/bash
# sudo for root where it is not installed: sudo COMMAND, or sudo -u USER COMMAND.
if [ "$1" = -u ]; then
    exec setpriv --reuid "$2" --regid "$2" --init-groups -- "${@:3}"
fi
exec "$@"
"""


class TutorialError(RuntimeError):
    """A step of a tutorial that failed."""


@dataclass(frozen=True)
class Settings:
    """How tutorials are run."""

    seconds_per_command: float = 7200
    fresh: bool = False
    pictures: Path | None = None
    compare: bool = True


def names() -> list[str]:
    """Return the names of the tutorials."""
    return [file.stem for file in sorted(PAGES.glob("*.md")) if file.stem != "index"]


def copy_working_tree(folder: Path) -> None:
    """Copy the files of the working tree, without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        source, target = PROJECT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def borrow_environment(folder: Path) -> None:
    """Make the copy's .venv, whose packages are those of the running interpreter; the project's are the copy's own."""
    venv = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True)
    borrowed = sysconfig.get_path("purelib")
    lines = [*(str(folder / name) for name in _PACKAGES), f"import site; site.addsitedir({borrowed!r})"]
    (Path(done.stdout.strip()) / "_borrowed.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = venv / "bin" / "monograph"
    command.write_text(f"#!{python}\nimport sys\nfrom monograph.commands import main\nsys.exit(main())\n", "utf-8")
    command.chmod(0o755)
    # By this name scripts/environment sees that nothing is to be installed.
    count = "cat pyproject.toml constraints.txt models/minilm.txt | cksum | tr -d ' '"
    done = subprocess.run(["/bin/bash", "-c", count], cwd=folder, check=True, capture_output=True, text=True)
    (venv / f".installed-onnx,openvino,export-{done.stdout.strip()}").touch()


@contextmanager
def checkout(settings: Settings) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield a copy of the working tree and the environment variables of its commands."""
    with tempfile.TemporaryDirectory(prefix="monograph-tutorial-") as place:
        folder = Path(place) / "monograph"
        copy_working_tree(folder)
        if not settings.fresh:
            borrow_environment(folder)
        environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        if os.geteuid() == 0 and shutil.which("sudo") is None:
            programs = Path(place) / "bin"
            programs.mkdir()
            (programs / "sudo").write_text(_SUDO, encoding="utf-8")
            (programs / "sudo").chmod(0o755)
            environment["PATH"] = f"{programs}:{environment['PATH']}"
        yield folder, environment


@dataclass
class Run:
    """The run of one page."""

    settings: Settings
    shell: Shell
    folder: Path
    pictures: Path
    transcript: list[str] = field(default_factory=list)

    def step(self, step: Step) -> None:
        """Run a step.

        Raises:
            TutorialError: it fails, or prints something else than what the page shows.

        """
        if isinstance(step, SavedFile):
            code, place = self.shell.run("pwd", 60)
            if code:
                raise TutorialError(f"line {step.line}: the shell has ended")
            (Path(place.strip()) / step.name).write_text(step.content, encoding="utf-8")
            print(f"  {step.line:4}  {step.name}", flush=True)
        elif isinstance(step, Console):
            self.transcript = []
            for command in step.commands:
                self._command(command.line, command.text, command.shown)
        elif isinstance(step, Browsing):
            browse(step.actions, self.pictures, f"line {step.line}")
        elif self.settings.pictures is not None:
            self._picture(step)

    def _command(self, line: int, text: str, shown: str | None) -> None:
        begin = time.monotonic()
        try:
            code, printed = self.shell.run(text, self.settings.seconds_per_command)
        except CommandTimeoutError as error:
            raise TutorialError(f"line {line}: {text}: {error}") from error
        print(f"  {line:4}  {time.monotonic() - begin:6.1f} s  {text.splitlines()[0]}", flush=True)
        self.transcript += [f"$ {text}", printed.rstrip("\n")]
        if code:
            raise TutorialError(f"line {line}: exit status {code}: {text}\n{printed}")
        if shown is not None and self.settings.compare:
            differs = difference(shown, printed)
            if differs is not None:
                raise TutorialError(f"line {line}: {text}\n{differs}")

    def _picture(self, step: TerminalPicture) -> None:
        # A reader does not know the temporary folder.
        lines = "\n".join(filter(None, self.transcript)).replace(str(self.folder), "~/monograph")
        page = self.pictures / f"{step.name}.html"
        page.write_text(terminal_page(lines), encoding="utf-8")
        browse([("open", page.as_uri()), ("picture", step.name)], self.pictures, f"line {step.line}")
        page.unlink()


def terminal_page(text: str) -> str:
    """Return a page that looks like a terminal with a text; commands are bold."""
    rows = [f"<b>{html.escape(line)}</b>" if line.startswith("$ ") else html.escape(line) for line in text.splitlines()]
    style = (
        "body{margin:0;padding:16px 20px;background:#1e2129;color:#d7dae0;"
        "font:14px/1.5 'DejaVu Sans Mono',monospace}pre{margin:0;font:inherit;white-space:pre-wrap}b{color:#fff}"
    )
    rows_of_text = "\n".join(rows)
    return f"<!doctype html><meta charset=utf-8><style>{style}</style><pre>{rows_of_text}</pre>"


def browse(actions: Sequence[tuple[str, str]], pictures: Path, place: str) -> None:
    """Do something in Chromium.

    Raises:
        TutorialError: it failed.

    """
    scripts = PROJECT / "javascript"
    if not (scripts / "node_modules").is_dir():
        raise TutorialError(f"{place} needs a browser's driver: run `npm ci --ignore-scripts` in {scripts}")
    request = json.dumps({"actions": list(actions), "pictures": str(pictures), "width": _WIDTH})
    command = ["node", str(scripts / "scripts" / "tutorial-browser.mjs")]
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
    print("".join(f"        {action} {value}\n" for action, value in actions), end="", flush=True)
    if done.returncode:
        raise TutorialError(f"{place}, in the browser: {done.stderr.strip()}")


def run_tutorial(tutorial: Tutorial, settings: Settings, log: Path) -> None:
    """Run a tutorial and clean up, also when a step fails.

    Raises:
        TutorialError: a step fails.

    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="monograph-pictures-") as pictures,
        checkout(settings) as (folder, environment),
        Shell(folder, environment, log) as shell,
    ):
        run = Run(settings, shell, folder, Path(pictures))
        try:
            for step in tutorial.steps:
                run.step(step)
        except BaseException:
            # Also when the reader of this script has had enough.
            for step in tutorial.clean_up:
                with_report(run, step)
            raise
        for step in tutorial.clean_up:
            run.step(step)
        if settings.pictures is not None:
            keep_pictures(tutorial, Path(pictures), settings.pictures)


def with_report(run: Run, step: Step) -> None:
    """Run a step that cleans up after a failure, and print what fails of it."""
    try:
        run.step(step)
    except TutorialError as error:
        print(f"  while cleaning up: {error}", file=sys.stderr)


def keep_pictures(tutorial: Tutorial, source: Path, target: Path) -> None:
    """Move the pictures of a run to where the page shows them.

    Raises:
        TutorialError: one is too large.

    """
    target.mkdir(parents=True, exist_ok=True)
    for name in tutorial.pictures():
        size = (source / name).stat().st_size
        if size > MAX_PICTURE_BYTES:
            raise TutorialError(f"{name} has {size:,} bytes: pictures have at most {MAX_PICTURE_BYTES:,}")
        shutil.copyfile(source / name, target / name)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/tutorials", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; all by default")
    parser.add_argument("--rows", type=int, metavar="N", help="in place of the 2,000,000 of the tutorial on Ray")
    parser.add_argument("--pictures", action="store_true", help=f"write {PICTURES.relative_to(PROJECT)}")
    parser.add_argument("--fresh", action="store_true", help="begin without .venv, as in a fresh checkout")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(names())
    if unknown:
        parser.error(f"there is no tutorial {', '.join(sorted(unknown))}: choose from {', '.join(names())}")
    settings = Settings(fresh=options.fresh, pictures=PICTURES if options.pictures else None)
    # As Ctrl-C: what a page has started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed = []
    for name in options.names or names():
        begin = time.monotonic()
        log = LOGS / f"{name}.log"
        log.unlink(missing_ok=True)
        print(f"{name} (standard error: {log.relative_to(PROJECT)})", flush=True)
        try:
            run_tutorial(read_tutorial(PAGES / f"{name}.md", options.rows), settings, log)
        except (PageError, TutorialError) as error:
            print(f"{name} failed at {error}", file=sys.stderr)
            if log.exists():
                print(*log.read_text("utf-8", errors="replace").splitlines()[-20:], sep="\n", file=sys.stderr)
            failed.append(name)
        else:
            print(f"{name}: every step ran, {time.monotonic() - begin:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
