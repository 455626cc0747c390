"""The files of a release: one version everywhere, the wheel's and sdist's contents, workflows that call what exists."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import monograph

PROJECT = Path(__file__).parents[2]
WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))
BUILD = "import sys; from hatchling import build; print(build.{hook}(sys.argv[1]))"


@pytest.fixture(scope="module")
def contents() -> ModuleType:
    """scripts/packaging/contents.py, which scripts/release uses."""
    spec = importlib.util.spec_from_file_location("contents", PROJECT / "scripts/packaging/contents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, contents: ModuleType) -> Path:
    """A copy of the committed files as they are now, without what a developer's folder has beside them."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in contents.committed_files():
        source = PROJECT / name
        if source.exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(source.read_bytes())
    return folder


def built(checkout: Path, hook: str) -> Path:
    output = checkout.parent / hook
    output.mkdir()
    command = [sys.executable, "-c", BUILD.format(hook=hook), str(output)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    return output / done.stdout.split()[-1]


def test_one_version_everywhere(contents: ModuleType) -> None:
    package = json.loads((PROJECT / "javascript/package.json").read_text("utf-8"))
    lock = json.loads((PROJECT / "javascript/package-lock.json").read_text("utf-8"))
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text("utf-8"))
    heading = re.search(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert heading is not None
    found = {package["version"], lock["version"], lock["packages"][""]["version"], citation["version"], heading[1]}
    assert found == {monograph.__version__} == {contents.python_version()}


def test_the_npm_package_has_the_license() -> None:
    assert (PROJECT / "javascript/LICENSE").read_bytes() == (PROJECT / "LICENSE").read_bytes()


def test_the_wheel_has_the_packages_and_nothing_else(contents: ModuleType, checkout: Path) -> None:
    wheel = built(checkout, "build_wheel")
    assert contents.wheel_problems(wheel) == []
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"monograph-{monograph.__version__}.dist-info"
        description = archive.read(f"{info}/METADATA").decode().partition("\n\n")[2]
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert {"monograph/py.typed", "monograph_export/probe_sentences.txt", "monograph_export/models/LaBSE.toml"} <= names
    assert "monograph = monograph.commands:main" in entry_points
    # The page on PyPI: no link is relative.
    targets = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", description)
    assert len(targets) > 20
    assert [target for target in targets if not re.match(r"https://|#", target)] == []


def test_the_sdist_has_the_committed_files(contents: ModuleType, checkout: Path) -> None:
    assert contents.sdist_problems(built(checkout, "build_sdist")) == []


def test_a_file_too_many_or_too_few_is_named(contents: ModuleType, tmp_path: Path) -> None:
    info = f"monograph-{monograph.__version__}.dist-info"
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.4\nVersion: 9.9\n")
        archive.writestr("tests/test_x.py", "")
    problems = contents.wheel_problems(tmp_path / "x.whl")
    assert "x.whl lacks monograph/py.typed" in problems
    assert "x.whl should not contain tests/test_x.py" in problems
    assert f"x.whl does not have the version {monograph.__version__}" in problems


def test_what_is_not_ready_is_not_published(contents: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    for name in contents.committed_files():
        if not name.endswith((".md", ".toml", "package.json", "version.py")):
            continue
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((PROJECT / name).read_bytes())
    monkeypatch.setattr(contents, "PROJECT", tmp_path)
    urls = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    text = (tmp_path / "pyproject.toml").read_text("utf-8")
    (tmp_path / "pyproject.toml").write_text(text.replace(urls["Source"], "https://source.example/x"))
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {monograph.__version__} (unreleased)\n")
    problems = contents.unpublishable()
    assert any("Source is still https://source.example/x" in problem for problem in problems)
    assert any("CHANGELOG.md" in problem for problem in problems)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_scripts_that_exist_and_may_only_read(workflow: Path) -> None:
    content = yaml.safe_load(workflow.read_text("utf-8"))
    assert content["permissions"] == {"contents": "read"}
    for job in content["jobs"].values():
        assert job["timeout-minutes"] > 0
        for step in job["steps"]:
            for script in re.findall(r"(?:^|\s)((?:scripts|\.ci)/\S+)", step.get("run", "")):
                assert (PROJECT / script).stat().st_mode & 0o111, f"{workflow.name} calls {script}"


def test_classifiers_agree_with_the_pythons_of_ci() -> None:
    classifiers = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    declared = {match[1] for text in classifiers if (match := re.fullmatch(r".* :: Python :: (3\.\d+)", text))}
    matrix = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]["runtime"]["strategy"]
    assert set(matrix["matrix"]["python"]) == declared
