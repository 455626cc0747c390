"""The virtual environments of the peers: one for each set of packages that can be installed together."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from monograph.atomic import atomic_file
from monograph.cache import cache_folder
from monograph.errors import InputError, MonographError
from monograph.progress import SILENT, Progress
from monograph.vector_file.disk import open_locked
from monograph_bench.peers.catalog import PEERS, Peer

_REQUIREMENTS = Path(__file__).parent / "requirements"
_STAMP = "requirements.sha256"
# The environment whose peers run in monograph's own where that has sentence-transformers: what users would compare.
_TORCH = "torch"


class PeerError(MonographError):
    """A peer is unknown, its environment is missing or cannot be made, or it cannot load the checkpoint."""


def default_home() -> Path:
    """Return where environments and exported models are cached unless another folder is named."""
    return cache_folder() / "bench"


def find_peer(name: str) -> Peer:
    """Return a peer by its name.

    Raises:
        PeerError: there is none of that name.

    """
    if name not in PEERS:
        raise PeerError(f"there is no peer {name}: choose from {', '.join(PEERS)}")
    return PEERS[name]


def find_python(name: str, home: Path | None = None) -> Path:
    """Return the Python interpreter of a peer's environment.

    Raises:
        PeerError: there is no such peer, or its environment is not there, half made, or of other versions.

    """
    peer = find_peer(name)
    if _is_own(peer.environment):
        return Path(sys.executable)
    folder = _folder(peer.environment, home)
    if not _is_made(folder, peer.environment):
        raise PeerError(f"the environment of {name} is not there: run monograph bench --setup-peers {name}")
    return _interpreter(folder)


def set_up(
    names: Iterable[str],
    home: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
    progress: Progress = SILENT,
) -> None:
    """Make the environments of peers where they are missing or outdated; ``report`` gets a line about each.

    Each installation is a step of ``progress``.

    Raises:
        PeerError: a peer is not known, or an environment cannot be made; the others are made first.

    """
    failures = []
    for environment in dict.fromkeys(find_peer(name).environment for name in names):
        if _is_own(environment):
            report(f"environment {environment}: the one that monograph runs in")
            continue
        try:
            made = _make(environment, _folder(environment, home), report, progress)
        except PeerError as error:
            failures.append(str(error))
        except OSError as error:
            failures.append(f"environment {environment} cannot be made: {error}")
        else:
            report(f"environment {environment}: {'made' if made else 'there already'}")
    if failures:
        raise PeerError("; ".join(failures))


def requirements_of(environment: str) -> bytes:
    """Return the requirement file of an environment, and the package.json of one that has packages of npm too."""
    package = _package_json(environment)
    return (_REQUIREMENTS / f"{environment}.txt").read_bytes() + (package.read_bytes() if package.exists() else b"")


def _package_json(environment: str) -> Path:
    return _REQUIREMENTS / f"{environment}.json"


def _make(environment: str, folder: Path, report: Callable[[str], None], progress: Progress) -> bool:
    """Make an environment where it is not there as its requirements say; tell whether that was done."""
    with _one_at_a_time(folder):
        if _is_made(folder, environment):
            return False
        report(f"environment {environment}: installing, which takes minutes")
        with progress.step(f"Installing the environment {environment}"):
            _install(environment, folder)
        with atomic_file(folder / _STAMP) as stamp:
            stamp.write(_stamp(environment))
    return True


def _install(environment: str, folder: Path) -> None:
    # In its place from the start, for the scripts of an environment hold its path. What a run that was cut off left
    # has no stamp, and is cleared here.
    run_tool(f"environment {environment}: venv", [sys.executable, "-m", "venv", "--clear", str(folder)])
    pip = [str(_interpreter(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run_tool(f"environment {environment}: pip", [*pip, "--requirement", str(_REQUIREMENTS / f"{environment}.txt")])
    if _package_json(environment).exists():
        _install_node_packages(environment, folder)


def _install_node_packages(environment: str, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise PeerError(f"environment {environment}: npm is not in PATH: install Node.js")
    shutil.copyfile(_package_json(environment), folder / "package.json")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"]
    # The package has ONNX Runtime for the CPU; its installation would download that for CUDA.
    run_tool(f"environment {environment}: npm", command, {"ONNXRUNTIME_NODE_INSTALL": "skip"})


def run_tool(name: str, command: list[str], more_variables: Mapping[str, str] | None = None) -> None:
    """Run a program of an environment, without the variables of this one's Python.

    Raises:
        PeerError: it failed; the message has the last line of what it printed.

    """
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    variables |= more_variables or {}
    done = subprocess.run(command, capture_output=True, env=variables, check=False)  # noqa: S603 - ours
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise PeerError(f"{name} failed: {lines[-1] if lines else 'no message'}")


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = open_locked(folder.with_name(f"{folder.name}.lock"))
    except InputError as error:
        raise PeerError(f"{folder} is being made by another run: wait for its end") from error
    except OSError as error:
        raise PeerError(f"{folder} cannot be written: {error.strerror}") from error
    with lock:
        yield


def _is_own(environment: str) -> bool:
    return environment == _TORCH and importlib.util.find_spec("sentence_transformers") is not None


def _is_made(folder: Path, environment: str) -> bool:
    try:
        return (folder / _STAMP).read_bytes() == _stamp(environment)
    except OSError:
        return False


def _stamp(environment: str) -> bytes:
    """Return what an environment was made of: the requirements, and the Python that it links to."""
    parts = requirements_of(environment) + platform.python_version().encode()
    return hashlib.sha256(parts).hexdigest().encode()


def _folder(environment: str, home: Path | None) -> Path:
    # Not resolved: an environment's interpreter is a link.
    return (default_home() if home is None else home).absolute() / "environments" / environment


def _interpreter(folder: Path) -> Path:
    # Untested on Windows.
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"
