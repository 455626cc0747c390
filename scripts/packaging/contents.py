"""What the wheel, the sdist and the npm package contain: exactly the files that follow from those of the commit."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

PROJECT = Path(__file__).resolve().parents[2]
# Folders of the checkout -> folders of the wheel, as in pyproject.toml.
_IN_THE_WHEEL = {
    "runtime/monograph": "monograph",
    "exporter/monograph_export": "monograph_export",
    "benchmarks/monograph_bench": "monograph_bench",
    "models": "monograph_export/models",
}
# What hatchling leaves out of the sdist.
_NOT_IN_THE_SDIST = (".ci/", ".github/")
_OF_NPM = ("package.json", "README.md", "LICENSE")


def python_version() -> str:
    """Return the version of the Python package, without importing it."""
    text = (PROJECT / "runtime/monograph/version.py").read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError('runtime/monograph/version.py has no line __version__ = "..."')
    return found[1]


def committed_files() -> list[str]:
    """Return the files of the commit, as paths relative to the checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name]


def wheel_problems(wheel: Path) -> list[str]:
    """Return how the files of a wheel differ from those that it should have, and from its own list of them."""
    info = f"monograph-{python_version()}.dist-info"
    expected = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    for name in committed_files():
        for folder, target in _IN_THE_WHEEL.items():
            if name.startswith(f"{folder}/"):
                expected.add(f"{target}/{name.removeprefix(f'{folder}/')}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"{info}/METADATA").decode()
    problems = _differences(wheel.name, expected, names)
    if f"\nVersion: {python_version()}\n" not in metadata:
        problems.append(f"{wheel.name} does not have the version {python_version()}")
    return problems


def sdist_problems(sdist: Path) -> list[str]:
    """Return how the files of an sdist differ from those of the commit."""
    top = f"monograph-{python_version()}"
    expected = {f"{top}/{name}" for name in committed_files() if not name.startswith(_NOT_IN_THE_SDIST)}
    with tarfile.open(sdist) as archive:
        names = [member.name for member in archive if not member.isdir()]
    return _differences(sdist.name, expected | {f"{top}/PKG-INFO"}, names)


def npm_problems(tarball: Path) -> list[str]:
    """Return how the files of an npm package differ from its sources and what is compiled from them."""
    expected = {f"package/{name}" for name in _OF_NPM}
    for name in committed_files():
        path = PurePosixPath(name)
        if name.startswith("javascript/bin/"):
            expected.add(f"package/bin/{path.name}")
        elif name.startswith("javascript/src/") and path.suffix == ".ts":
            expected.add(f"package/src/{path.relative_to('javascript/src')}")
            compiled = path.relative_to("javascript/src").with_suffix("")
            expected.update(f"package/dist/{compiled}{suffix}" for suffix in (".js", ".js.map", ".d.ts"))
    with tarfile.open(tarball) as archive:
        names = [member.name for member in archive if not member.isdir()]
        manifest = archive.extractfile("package/package.json")
        version = json.load(io.BytesIO(manifest.read()))["version"] if manifest else None
    problems = _differences(tarball.name, expected, names)
    if version != python_version():
        problems.append(f"javascript/package.json has the version {version}, not {python_version()}")
    return problems


def unpublishable() -> list[str]:
    """Return what may be built but not be published: addresses that are not set, a version that is not dated."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    problems = [
        f"pyproject.toml: {name} is still {address}: set the project's own address"
        for name, address in project["urls"].items()
        if ".example" in address
    ]
    if "repository" not in json.loads((PROJECT / "javascript/package.json").read_text("utf-8")):
        problems.append(
            "javascript/package.json: there is no repository, which npm's provenance compares with the workflow's"
        )
    version = python_version()
    changes = (PROJECT / "CHANGELOG.md").read_text("utf-8")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d{{2}}-\d{{2}}\)$", changes, re.MULTILINE):
        problems.append(f"CHANGELOG.md: {version} has no date: write '## {version} (YYYY-MM-DD)'")
    problems += [
        f"{name} still says {words!r}"
        for name in ("README.md", "docs/quickstart.md", "docs/how-to/ship-to-a-device.md")
        for words in ("not on PyPI", "is on PyPI", "not yet released")
        if words in (PROJECT / name).read_text("utf-8")
    ]
    return problems


def _differences(file: str, expected: set[str], names: list[str]) -> list[str]:
    problems = [f"{file} lacks {name}" for name in sorted(expected - set(names))]
    problems += [f"{file} should not contain {name}" for name in sorted(set(names) - expected)]
    return problems + [f"{file} contains {name} twice" for name in sorted({n for n in names if names.count(n) > 1})]
