"""Install the files of a release in new environments, outside any checkout, and use them without a network.

For each interpreter: the wheel with the extra onnx, then commands and the API on the bundles of the sdist; what is
uninstalled must leave the environment as it was, and only the cache in the home folder. For the first interpreter, the
same from the sdist. Then the npm package, in Node, with its types compiled by a strict consumer. It needs only the
standard library, so it also runs where nothing is installed, as in a container or a chroot.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

LIMIT_BYTES = 250_000_000
FORBIDDEN = {"torch", "transformers", "sentence-transformers", "onnx", "scipy"}
# Packages of tests/runtime, and tests that need nothing of the checkout but tests/; those of OpenVINO are left out.
TEST_FILES = ("test_committed_bundles.py", "test_embedder.py", "test_postprocess.py", "test_vector_file.py")
TEST_PACKAGES = (
    "pytest>=9.0",
    "pytest-timeout>=2.4",
    "coverage>=7.10",
    "filelock>=3.12",
    "pyarrow>=20",
    "httpx>=0.28",
    "scipy>=1.13",
)

EMBED = """
import sys
from monograph import Embedder
with Embedder(sys.argv[1], device="cpu") as model:
    vectors = model.encode(["a boat in the harbour", "a ship", ""])
    assert vectors.shape == (3, model.dimension), vectors.shape
loaded = sorted({"torch", "transformers", "monograph_export"} & set(sys.modules))
assert not loaded, loaded
"""


class CheckError(Exception):
    """What a release does not do that it should."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every check passed."""
    parser = argparse.ArgumentParser(prog="scripts/release-check", description=__doc__)
    parser.add_argument("dist", nargs="?", type=Path, default=Path(__file__).resolve().parents[2] / "dist")
    parser.add_argument("--python", action="append", metavar="PATH", help="an interpreter; may be repeated")
    parser.add_argument("--skip-npm", action="store_true", help="do not check the npm package")
    parser.add_argument("--tests", action="store_true", help=f"also run {', '.join(TEST_FILES)} of the sdist")
    options = parser.parse_args(arguments)
    try:
        wheel, sdist = (only(options.dist, pattern) for pattern in ("*.whl", "*.tar.gz"))
        with tempfile.TemporaryDirectory(prefix="monograph-install-") as temporary:
            scratch = Path(temporary)
            with tarfile.open(sdist) as archive:
                archive.extractall(scratch / "sdist", filter="data")
            [sources] = (scratch / "sdist").iterdir()
            for number, python in enumerate(options.python or [sys.executable]):
                check_python(python, wheel, sources, scratch / f"wheel-{number}", options.tests)
                if number == 0:
                    check_python(python, sdist, sources, scratch / "from-sdist", tests=False)
            if not options.skip_npm:
                check_npm(only(options.dist, "*.tgz"), sources, scratch / "npm")
    except CheckError as error:
        print(f"scripts/release-check: {error}", file=sys.stderr)
        return 1
    return 0


def only(folder: Path, pattern: str) -> Path:
    """Return the one file of a folder that a pattern matches."""
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise CheckError(f"{folder} should have one {pattern}, and has {len(files)}: run scripts/release")
    return files[0].resolve()


def check_python(python: str, package: Path, sources: Path, scratch: Path, tests: bool) -> None:
    """Install a wheel or an sdist with an interpreter, use it on bundles of the sdist, and uninstall it."""
    home = scratch / "home"
    home.mkdir(parents=True)
    run([python, "-m", "venv", str(scratch / "env")], scratch)
    own = str(scratch / "env/bin/python")
    before, packages_before = installed_files(scratch), installed_packages(own, scratch)
    run([own, "-m", "pip", "install", "--quiet", "--no-compile", f"{package}[onnx]"], scratch)
    added = new = installed_packages(own, scratch) - packages_before
    if found := new & FORBIDDEN:
        raise CheckError(f"{package.name} installs {', '.join(sorted(found))}")
    size = sum(path.lstat().st_size for path in installed_files(scratch) - before)
    if size > LIMIT_BYTES:
        raise CheckError(f"{package.name}[onnx] takes {size / 1e6:.0f} MB, more than {LIMIT_BYTES / 1e6:.0f} MB")
    check_use(scratch, sources / "tests/data")
    if tests:
        run_tests(own, sources, scratch)
        new = installed_packages(own, scratch) - packages_before
    run([own, "-m", "pip", "uninstall", "--quiet", "--yes", *sorted(new)], scratch)
    # Also nothing that Python wrote beside it.
    if left := (installed_files(scratch) - before) | set((scratch / "env").rglob("monograph*")):
        raise CheckError(f"uninstalling left {len(left)} files: {sorted(map(str, left))[:3]}")
    cache = home / ".cache/monograph"
    if written := [path for path in home.rglob("*") if path.is_file() and cache not in path.parents]:
        raise CheckError(f"files outside the cache in the home folder: {sorted(map(str, written))[:3]}")
    version = run([python, "--version"], scratch).strip()
    print(f"{version}: {package.name}[onnx] takes {size / 1e6:.0f} MB in {len(added)} packages; passed", flush=True)


def check_use(scratch: Path, data: Path) -> None:
    """Run the commands and the API on bundles, without a network."""
    command = str(scratch / "env/bin/monograph")
    texts = scratch / "texts.txt"
    texts.write_text("a boat in the harbour\nхлеб\n", "utf-8")
    run([command, "--version"], scratch, offline=True)
    for name in ("embedding", "embedding-int8", "rerank", "sparse", "multi-vector"):
        run([command, "info", str(data / name)], scratch, offline=True)
        run([command, "verify", str(data / name), "--device", "cpu"], scratch, offline=True)
    bundle = str(data / "embedding")
    run([command, "embed", bundle, str(texts), "-o", str(scratch / "vectors.npy")], scratch, offline=True)
    run([command, "rank", str(data / "rerank"), "boat", str(texts)], scratch, offline=True)
    run([str(scratch / "env/bin/python"), "-c", EMBED, bundle], scratch, offline=True)


def run_tests(python: str, sources: Path, scratch: Path) -> None:
    """Run tests of the sdist on what is installed: the packages of the sdist itself are not importable."""
    run([python, "-m", "pip", "install", "--quiet", "--no-compile", *TEST_PACKAGES], scratch)
    copy = scratch / "checkout"
    for name in ("tests", "pyproject.toml"):
        copying = shutil.copytree if (sources / name).is_dir() else shutil.copyfile
        copy.mkdir(exist_ok=True)
        copying(sources / name, copy / name)
    files = [f"tests/runtime/{name}" for name in TEST_FILES]
    output = run(
        [python, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not openvino", *files],
        copy,
        home=scratch / "home",
    )
    print(output.strip().splitlines()[-1], flush=True)


def check_npm(tarball: Path, sources: Path, scratch: Path) -> None:
    """Install the npm package in an empty folder, verify bundles in Node, and compile a consumer of its types."""
    consumer = sources / "scripts/packaging/npm-consumer"
    (scratch / "home").mkdir(parents=True)
    for file in consumer.iterdir():
        shutil.copyfile(file, scratch / file.name)
    install = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--silent",
        str(tarball),
        "typescript@^7.0.2",
        "@types/node@^20",
    ]
    # Its script downloads files for CUDA.
    run(install, scratch, settings={"ONNXRUNTIME_NODE_INSTALL": "skip"})
    for resolution in ("nodenext", "bundler"):
        module = "nodenext" if resolution == "nodenext" else "esnext"
        run(["npx", "tsc", "--noEmit", "--module", module, "--moduleResolution", resolution], scratch)
    data = sources / "tests/data"
    run(["npx", "tsc", "--outDir", "build"], scratch)
    print(run(["node", "build/consumer.js", str(data / "embedding")], scratch, offline=True).strip())
    for name in ("embedding", "rerank", "sparse"):
        run(["npx", "--no-install", "monograph-runtime", "verify", str(data / name)], scratch, offline=True)
    version = run(["node", "--version"], scratch).strip()
    print(f"Node {version}: {tarball.name} opens and verifies bundles, and its types compile; passed", flush=True)


def installed_files(scratch: Path) -> set[Path]:
    """Return the files and links of an environment, without the bytes that Python writes when it imports."""
    env = scratch / "env"
    return {
        path for path in env.rglob("*") if "__pycache__" not in path.parts and (path.is_symlink() or path.is_file())
    }


def installed_packages(python: str, scratch: Path) -> set[str]:
    """Return the names of the packages of an environment, in lower case."""
    listing = json.loads(run([python, "-m", "pip", "list", "--format=json"], scratch))
    return {package["name"].lower().replace("_", "-") for package in listing}


def run(
    command: Sequence[str],
    cwd: Path,
    offline: bool = False,
    home: Path | None = None,
    settings: dict[str, str] | None = None,
) -> str:
    """Run a command outside the checkout and return its output; ``CheckError`` with what it printed if it fails."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    environment = own | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | (settings or {})
    # What pip and npm write into a home folder is not what is checked.
    if offline or home:
        environment["HOME"] = str(home or cwd / "home")
    if offline:
        nowhere = "http://127.0.0.1:9"
        environment |= {"HF_HUB_OFFLINE": "1", "http_proxy": nowhere, "https_proxy": nowhere, "all_proxy": nowhere}
        command = [*without_network(), *command]
    done = subprocess.run(
        command, cwd=cwd, env=environment, check=False, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        output = f"{done.stdout}\n{done.stderr}".strip()
        raise CheckError(f"exit code {done.returncode} of {' '.join(command)}:\n{output[-4000:]}")
    return done.stdout


def without_network() -> list[str]:
    """Return what a command is run by so that the kernel refuses connections; nothing where that is not permitted."""
    for prefix in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
        ):
            return prefix
    return []


if __name__ == "__main__":
    sys.exit(main())
