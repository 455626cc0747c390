"""The software bills of materials of a release, in CycloneDX, without what differs from build to build."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from contents import python_version

# What deploy/Dockerfile installs.
EXTRAS = "onnx,serve"


def python_bill(copy: Path, output: Path, environment: Mapping[str, str]) -> None:
    """List what the wheel in ``output`` installs with ``EXTRAS``; constraints.txt has the versions."""
    folder = copy / ".installed"
    venv.create(folder, with_pip=True)
    python = str(folder / "bin/python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    version = python_version()
    # Found in a folder and not named as a file, whose path would be in the list.
    install = [*pip, "--no-index", "--no-deps", f"--find-links={output}", f"monograph=={version}"]
    subprocess.run(install, cwd=copy, env=environment, check=True, stdout=sys.stderr)
    more = [*pip, "--constraint=constraints.txt", f"--find-links={output}", f"monograph[{EXTRAS}]=={version}"]
    subprocess.run(more, cwd=copy, env=environment, check=True, stdout=sys.stderr)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools"], cwd=copy, check=True)
    command = ["cyclonedx-py", "environment", "--output-reproducible", "--sv", "1.6", "--of", "JSON", python]
    done = subprocess.run(command, cwd=copy, env=environment, check=True, capture_output=True)
    _write(output / f"monograph-{version}.cdx.json", json.loads(done.stdout))


def npm_bill(javascript: Path, output: Path, environment: Mapping[str, str], epoch: int) -> None:
    """List what the npm package installs, from package-lock.json; ``epoch`` is the time of the commit in seconds."""
    command = ["npm", "sbom", "--sbom-format=cyclonedx", "--sbom-type=library", "--package-lock-only", "--omit=dev"]
    done = subprocess.run(command, cwd=javascript, env=environment, check=True, capture_output=True)
    bill = json.loads(done.stdout)
    # A random number, and the time of the call.
    bill.pop("serialNumber", None)
    bill["metadata"]["timestamp"] = datetime.fromtimestamp(epoch, UTC).isoformat()
    _write(output / f"monograph-runtime-{python_version()}.cdx.json", bill)


def _write(file: Path, bill: object) -> None:
    file.write_text(json.dumps(bill, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
