"""measurements.json: read beside the manifest it belongs to, refused where it is damaged, done without where absent."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monograph import BundleError, DeviceError, load
from monograph.bundle import open_bundle
from monograph.bundle.archive import pack_bundle, unpack_bundle
from monograph.bundle.manifest_reader import read_manifest
from monograph.bundle.measurements import write_measurements
from monograph.commands.main import main
from support.hub import environment, python, serve

DATA = Path(__file__).parents[1] / "data"
FILE = "measurements.json"


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A copy of a bundle with measurements that belongs to the test."""
    return Path(shutil.copytree(DATA / "embedding-int8-measured", tmp_path / "measured"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((bundle / FILE).read_bytes())
    change(value)
    (bundle / FILE).write_text(json.dumps(value), encoding="utf-8")


def problems_of(bundle: Path) -> tuple[str, ...]:
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert "\n" not in str(caught.value)
    return caught.value.problems


def test_a_bundle_has_them_as_one_whose_manifest_has_them(measured: Path) -> None:
    inline = open_bundle(DATA / "embedding-int8").manifest.quality
    quality = open_bundle(measured, check="full").manifest.quality
    assert [(one.device, one.compute_dtype, one.passed) for one in quality.verifications] == [
        (one.device, one.compute_dtype, one.passed) for one in inline.verifications
    ]
    assert quality.compression is not None
    assert inline.compression is not None
    for report in (quality.compression, inline.compression):
        assert report.agreement is not None
        assert report.layers is not None
        assert report.layers.calibration_agreement["texts"] == report.layers.calibration_inputs
    assert quality.compression.limits == inline.compression.limits


def test_the_manifest_has_what_a_reader_that_does_not_know_them_requires(measured: Path) -> None:
    value = json.loads((measured / "manifest.json").read_bytes())
    assert value["quality"]["verifications"] == []
    assert "compression" not in value["quality"]
    manifest, problems = read_manifest(value)
    assert problems == []
    assert manifest.quality.compression is not None
    assert manifest.quality.compression.agreement is None


def test_what_is_read_is_written_with_the_same_bytes(measured: Path) -> None:
    bundle = open_bundle(measured)
    assert bundle.manifest.to_file() == (measured / "manifest.json").read_bytes()
    before = (measured / FILE).read_bytes()
    write_measurements(measured, bundle.manifest, bundle.manifest_sha256)
    assert (measured / FILE).read_bytes() == before


def test_a_device_that_failed_is_refused(measured: Path) -> None:
    edit(measured, lambda value: [one.update(passed=False, reason="off by 1") for one in value["verifications"]])
    with pytest.raises(DeviceError, match="off by 1"):
        load(measured, device="cpu", compute_dtype="float32")


def test_without_them_a_bundle_works_and_says_so(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (measured / FILE).unlink()
    with load(measured, device="cpu", compute_dtype="float32") as model:
        assert model.encode(["a boat"]).shape == (1, 24)
    assert main(["info", str(measured)]) == 0
    printed = capsys.readouterr().out
    assert "measured     unknown, measurements.json is missing" in printed
    assert "compressed   table int8, layers int8" in printed
    assert main(["info", str(measured), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quality"]["verifications"] == []


def test_those_of_another_manifest_are_refused(measured: Path) -> None:
    manifest = measured / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    (problem,) = problems_of(measured)
    assert problem.startswith("measurements.json belongs to another manifest.json, by its sha256: ")


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no hash": lambda value: value.pop("manifest_sha256"),
    "a hash of numbers": lambda value: value.update(manifest_sha256=[1]),
    "no verifications": lambda value: value.pop("verifications"),
    "verifications of strings": lambda value: value.update(verifications=["x"]),
    "a verification of nothing": lambda value: value.update(verifications=[{}]),
    "a measurement beyond a float": lambda value: value["verifications"][0].update(worst_cosine=10**400),
    "reasons of numbers": lambda value: value.update(not_run={"npu": 1}),
    "an agreement of words": lambda value: value.update(agreement="high"),
    "an agreement of nothing": lambda value: value.update(agreement={}),
    "another task's agreement": lambda value: value.update(agreement={"pairs": 1, "spearman": 1.0}),
    "an agreement in calibration of words": lambda value: value.update(calibration_agreement={"texts": "all"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_export_writes_is_a_bundle_error(name: str, measured: Path) -> None:
    edit(measured, HOSTILE[name])
    assert all(problem.startswith("measurements.json: ") for problem in problems_of(measured))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff\xfe", b'{"a": NaN}', b" " * (8 * 2**20 + 1)]
)
def test_what_is_no_object_is_a_bundle_error(content: bytes, measured: Path) -> None:
    (measured / FILE).write_bytes(content)
    assert all(problem.startswith("measurements.json") for problem in problems_of(measured))


def test_what_is_no_file_is_a_bundle_error(measured: Path) -> None:
    (measured / FILE).rename(measured.parent / FILE)
    (measured / FILE).symlink_to(measured.parent / FILE)
    assert problems_of(measured) == ("measurements.json is a link; a bundle holds real files",)
    (measured / FILE).unlink()
    (measured / FILE).mkdir()
    (problem,) = problems_of(measured)
    assert problem.startswith("measurements.json cannot be read (")


def test_an_archive_has_them(measured: Path, tmp_path: Path) -> None:
    packed = pack_bundle(measured, tmp_path / "packed.tar")
    unpacked = unpack_bundle(packed, tmp_path / "unpacked")
    assert {path.name: path.read_bytes() for path in unpacked.iterdir()} == {
        path.name: path.read_bytes() for path in measured.iterdir()
    }


def test_an_archive_with_foreign_ones_is_refused(measured: Path, tmp_path: Path) -> None:
    packed = pack_bundle(measured, tmp_path / "packed.tar")
    digest = hashlib.sha256((measured / "manifest.json").read_bytes()).hexdigest().encode()
    packed.write_bytes(packed.read_bytes().replace(digest, b"0" * 64))
    with pytest.raises(BundleError, match="belongs to another manifest"):
        unpack_bundle(packed, tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_a_download_has_them(measured: Path, tmp_path: Path) -> None:
    code = "import sys; from monograph.bundle.sources import locate_bundle; print(locate_bundle(sys.argv[1]))"
    with serve() as hub:
        hub.add("some-org/measured", measured)
        done = python(code, "some-org/measured", env=environment(hub, tmp_path))
    assert done.returncode == 0, done.stderr
    downloaded = Path(done.stdout.strip())
    assert (downloaded / FILE).read_bytes() == (measured / FILE).read_bytes()
    assert open_bundle(downloaded).manifest.quality.verifications
