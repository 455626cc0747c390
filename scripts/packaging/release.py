"""Build a release of the commit HEAD twice, compare the bytes, check the files, and write them to dist/.

The second copy has another path, other times and permissions of files, and another umask, time zone and hash seed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bills_of_materials import npm_bill, python_bill
from contents import PROJECT, npm_problems, python_version, sdist_problems, unpublishable, wheel_problems

TOOLS = Path(sys.executable).parent
SUMS = "SHA256SUMS"


def main() -> int:
    """Return 0 if the release was built, is reproducible and passed every check."""
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument("--publish", action="store_true", help="refuse what should not be published yet")
    parser.add_argument("--tag", help="refuse a tag that is not that of the version")
    options = parser.parse_args()
    problems = tree_problems()
    if options.tag not in (None, f"v{python_version()}"):
        problems.append(
            f"the tag {options.tag} is not v{python_version()}, the version in runtime/monograph/version.py"
        )
    if options.publish:
        problems += unpublishable()
    if problems:
        return failed(problems)
    commit = git("rev-parse", "HEAD").decode().strip()
    with tempfile.TemporaryDirectory(prefix="monograph-release-") as temporary:
        first, second = Path(temporary) / "a", Path(temporary) / "another folder" / "with a longer path"
        files = build(commit, first, {"TZ": "UTC", "PYTHONHASHSEED": "0"}, umask=0o022)
        shutil.copytree(first / "javascript/node_modules", second / "javascript/node_modules", symlinks=True)
        again = build(commit, second, {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7"}, umask=0o077, touch=True)
        problems = different(files, again) + file_problems(files)
        if problems:
            return failed(problems)
        publish_to_dist(files)
    return 0


def tree_problems() -> list[str]:
    """Return why HEAD is not what lies in the checkout."""
    lines = git("status", "--porcelain").decode().splitlines()
    return [f"not committed: {line[3:]} (a release is built from HEAD)" for line in lines]


def git(*arguments: str) -> bytes:
    """Return the output of git in the checkout."""
    return subprocess.run(["git", *arguments], cwd=PROJECT, check=True, capture_output=True).stdout


def failed(problems: list[str]) -> int:
    """Print problems, one a line, and return the exit code."""
    for problem in problems:
        print(f"scripts/release: {problem}", file=sys.stderr)
    return 1


def build(commit: str, copy: Path, settings: Mapping[str, str], umask: int, touch: bool = False) -> dict[str, Path]:
    """Copy a commit to a folder and build it there; return the files by their names."""
    copy.mkdir(parents=True, exist_ok=True)
    archive = git("archive", commit)
    subprocess.run(
        ["tar", "--extract", "--no-same-permissions", f"--directory={copy}"], input=archive, check=True, umask=umask
    )
    if touch:
        for path in copy.rglob("*"):
            if "node_modules" not in path.parts:
                os.utime(path, (time.time(), time.time()))
    epoch = git("log", "-1", "--format=%ct", commit).decode().strip()
    search_path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **settings, "SOURCE_DATE_EPOCH": epoch, "PATH": search_path}
    output = copy / "dist"
    output.mkdir()

    def run(*command: str, cwd: Path = copy) -> None:
        subprocess.run(command, cwd=cwd, env=environment, umask=umask, check=True, stdout=sys.stderr)

    say(f"building in {copy}")
    # The wheel from the sdist, as pip would.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output))
    javascript = copy / "javascript"
    if not (javascript / "node_modules").exists():
        # Without scripts: that of onnxruntime-node downloads files for CUDA.
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=javascript)
    run("npm", "run", "--silent", "build", cwd=javascript)
    # npm packs the permissions that files have, which hatchling sets.
    run(
        "chmod",
        "u=rwX,go=rX",
        "--recursive",
        "dist",
        "bin",
        "src",
        "LICENSE",
        "README.md",
        "package.json",
        cwd=javascript,
    )
    run("npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", str(output), cwd=javascript)
    say("listing what is installed with it")
    npm_bill(javascript, output, environment, int(epoch))
    python_bill(copy, output, environment)
    return {file.name: file for file in sorted(output.iterdir()) if file.name != ".gitignore"}


def different(files: dict[str, Path], again: dict[str, Path]) -> list[str]:
    """Return which files of two builds differ."""
    problems = [f"only one of two builds wrote {name}" for name in sorted(files.keys() ^ again.keys())]
    return problems + [
        f"{name} is not reproducible: {digest(files[name])} and {digest(again[name])}"
        for name in sorted(files.keys() & again.keys())
        if files[name].read_bytes() != again[name].read_bytes()
    ]


def file_problems(files: dict[str, Path]) -> list[str]:
    """Return what is wrong with the files of a release, or with the definition of the container image."""
    [wheel] = [file for name, file in files.items() if name.endswith(".whl")]
    [sdist] = [file for name, file in files.items() if name.endswith(".tar.gz")]
    [tarball] = [file for name, file in files.items() if name.endswith(".tgz")]
    problems = wheel_problems(wheel) + sdist_problems(sdist) + npm_problems(tarball)
    commands = [
        ["twine", "check", "--strict", str(wheel), str(sdist)],
        # Three packages are meant.
        ["check-wheel-contents", "--toplevel", "monograph,monograph_export,monograph_bench", str(wheel)],
    ]
    if (TOOLS / "hadolint").exists():
        commands.append(["hadolint", str(PROJECT / "deploy/Dockerfile")])
    else:
        say("hadolint has no package for this machine: deploy/Dockerfile is not checked")
    for program, *arguments in commands:
        done = subprocess.run([TOOLS / program, *arguments], check=False, capture_output=True, text=True)
        if done.returncode:
            problems.append(f"{program}: {done.stdout.strip()} {done.stderr.strip()}")
    return problems


def publish_to_dist(files: dict[str, Path]) -> None:
    """Write the files and their sums to dist/, which is complete or the former one; print sizes and hashes."""
    dist = PROJECT / "dist"
    staged = Path(tempfile.mkdtemp(prefix=".dist-", dir=PROJECT))
    staged.chmod(0o755)
    lines = []
    for name, file in files.items():
        shutil.copyfile(file, staged / name)
        lines.append(f"{digest(file)}  {name}\n")
        print(f"{file.stat().st_size:>10,} bytes  {digest(file)}  {name}")
    (staged / SUMS).write_text("".join(lines), "utf-8")
    if dist.exists():
        shutil.rmtree(dist)
    staged.rename(dist)
    print(f"two builds of {len(files)} files are equal in every byte; they are in dist/")


def digest(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def say(text: str) -> None:
    """Report a step on stderr."""
    print(f"scripts/release: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
