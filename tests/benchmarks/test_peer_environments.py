"""The environments of the peers: what is installed in them, and that they are made whole or not at all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from monograph.errors import MonographError
from monograph_bench.peers import environments
from monograph_bench.peers.catalog import PEERS
from monograph_bench.peers.environments import PeerError, find_python, set_up
from support.recorder import Recorder


@pytest.mark.parametrize("environment", sorted({peer.environment for peer in PEERS.values()}))
def test_requirements_are_pinned(environment: str) -> None:
    text = (environments._REQUIREMENTS / f"{environment}.txt").read_text()
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert pins
    assert all(re.fullmatch(r"[a-z0-9-]+(\[[a-z]+\])?==[0-9.]+", pin) for pin in pins)
    # A bare torch on Linux brings gigabytes of CUDA packages.
    if any("sentence-transformers" in pin for pin in pins):
        torch = [
            line for line in (_project() / "constraints.txt").read_text().splitlines() if line.startswith("torch==")
        ]
        assert torch[0] in pins


def test_packages_of_npm_are_pinned_and_part_of_what_an_environment_is_made_of() -> None:
    file = environments._REQUIREMENTS / "transformers-js.json"
    packages = json.loads(file.read_text())["dependencies"]
    assert packages
    assert all(re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version) for version in packages.values())
    assert environments.requirements_of("transformers-js").endswith(file.read_bytes())


def test_an_environment_that_needs_npm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _requirements(tmp_path, monkeypatch, "# nothing\n")
    (tmp_path / "onnxruntime.json").write_text("{}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerError, match=r"environment onnxruntime: npm is not in PATH: install Node\.js"):
        set_up(["fastembed"], tmp_path)


def test_an_environment_that_is_not_there_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(MonographError, match=r"run monograph bench --setup-peers fastembed$"):
        find_python("fastembed", tmp_path)


def test_torch_peers_run_in_this_environment(tmp_path: Path) -> None:
    assert find_python("sentence-transformers", tmp_path) == find_python("st-bf16", tmp_path) == Path(sys.executable)


def test_an_environment_is_made_once_and_again_where_its_requirements_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = _requirements(tmp_path, monkeypatch, "# nothing\n")
    messages: list[str] = []
    recorder = Recorder()
    set_up(["fastembed", "light-embed"], tmp_path, messages.append, recorder)
    assert recorder.names == ["Installing the environment onnxruntime"]
    assert messages == ["environment onnxruntime: installing, which takes minutes", "environment onnxruntime: made"]
    python = find_python("fastembed", tmp_path)
    prefix = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, check=True, text=True)
    assert Path(prefix.stdout.strip()) == tmp_path / "environments" / "onnxruntime"

    messages.clear()
    left = tmp_path / "environments" / "onnxruntime" / "left"
    left.touch()
    set_up(["light-embed"], tmp_path, messages.append)
    assert messages == ["environment onnxruntime: there already"]
    assert left.exists()

    requirements.write_text("# another nothing\n")
    with pytest.raises(PeerError, match="--setup-peers"):
        find_python("fastembed", tmp_path)
    set_up(["light-embed"], tmp_path)
    assert not left.exists()
    find_python("fastembed", tmp_path)


def test_a_half_made_environment_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a package index that has nothing answers, without a network.
    _requirements(tmp_path, monkeypatch, "--no-index\nno-such-package==1.0\n")
    with pytest.raises(PeerError) as caught:
        set_up(["fastembed"], tmp_path)
    message = str(caught.value)
    assert message.startswith("environment onnxruntime: pip failed: ")
    assert "no-such-package==1.0" in message
    assert "\n" not in message
    assert (tmp_path / "environments" / "onnxruntime").is_dir()
    with pytest.raises(PeerError, match="--setup-peers"):
        find_python("fastembed", tmp_path)


def _project() -> Path:
    return Path(__file__).parents[2]


def _requirements(folder: Path, patch: pytest.MonkeyPatch, text: str) -> Path:
    """Have environments made of a requirement file of the test's own, and return it."""
    patch.setattr(environments, "_REQUIREMENTS", folder)
    path = folder / "onnxruntime.txt"
    path.write_text(text)
    return path
