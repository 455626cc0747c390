"""Text of a stranger, from manifests, files and arguments: printed on one line, without characters that steer."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monograph import BundleError, InputError, MonographError
from monograph.commands import main
from monograph.errors import first_line, printable
from support.command import PROGRESS

Edit = Callable[[Callable[[dict[str, Any]], object]], None]
STEERING = "\n\x1b[2Jverified     cpu\r\x9b1A\u202e\u2066\u2028\ud800"
# A manifest with half a character is refused.
FAKE = STEERING.replace("\ud800", "")
# By the rule of their fields.
FIXED = ("precision", "dtype", "sha256", "file", "engines", "padding_side", "similarity", "task", "reference")


def _spoil(value: Any, text: str) -> Any:
    """Return JSON with ``text`` behind every string that a manifest may choose."""
    if isinstance(value, dict):
        return {key: entry if key in FIXED else _spoil(entry, text) for key, entry in value.items()}
    return value + text if isinstance(value, str) else value


def _assert_clean(text: str) -> None:
    for line in text.split("\n"):
        assert line.replace("\u00a0", " ").isprintable(), line


def test_printable_escapes_what_steers_a_terminal_and_nothing_else() -> None:
    assert printable(STEERING) == r"\n\x1b[2Jverified     cpu\r\x9b1A\u202e\u2066\u2028\ud800"
    words = "Grüße, 日本語\u3000の, نیم‌فاصله, क्‍ष, 👩‍💻, a\u00a0b"
    assert printable(words) == words


def test_printable_leaves_out_the_middle_of_a_long_text() -> None:
    text = printable("a" * 100_000 + ": do this", 400)
    assert len(text) < 450
    assert text.startswith("aaa")
    assert text.endswith(": do this")


@pytest.mark.parametrize(
    "error", [MonographError(STEERING), InputError("x" * 10**6), BundleError(f"a{STEERING}", [STEERING, "y" * 10**6])]
)
def test_an_error_is_one_printable_line_of_bounded_length(error: MonographError) -> None:
    _assert_clean(str(error))
    assert "\n" not in str(error)
    assert len(str(error)) < 5_000


def test_the_first_line_of_a_foreign_error_is_printable_and_bounded() -> None:
    assert first_line(ValueError("\n  \x1b[31mred\nmore")) == r"\x1b[31mred"
    assert len(first_line(ValueError("x" * 10**6))) < 2_000
    assert first_line(ValueError()) == "ValueError"


@pytest.mark.parametrize("text", [FAKE, FAKE + "x" * 100_000], ids=["short", "long"])
def test_info_prints_as_many_lines_for_a_manifest_that_fakes_one(
    text: str, bundle_copy: Path, edit_manifest: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(bundle_copy)]) == 0
    honest = capsys.readouterr().out

    def spoil(value: dict[str, Any]) -> None:
        quality = value["quality"]
        quality["verifications"] = [_spoil(one, text) for one in quality["verifications"]]
        quality["not_run"] = {f"{device}{text}": f"{reason}{text}" for device, reason in quality["not_run"].items()}
        quality["encoder_file"] = text
        value["source"] = _spoil(value["source"], text)
        value["producer"] = _spoil(value["producer"], text)
        value["prompts"] = _spoil(value["prompts"], text)
        value["graphs"] = [graph | {"parts": {f"x{text}": size for size in (1, 2)}} for graph in value["graphs"]]

    edit_manifest(spoil)
    for arguments in ([], ["--json"]):
        assert main(["info", str(bundle_copy), *arguments]) == 0
        printed = capsys.readouterr().out
        _assert_clean(printed)
        if not arguments:
            parts = honest.count(" of which about ")
            assert printed.count("\n") == honest.count("\n") - parts + 1
            assert sum(line.startswith("verified") for line in printed.splitlines()) == sum(
                line.startswith("verified") for line in honest.splitlines()
            )


def test_texts_and_names_of_files_are_printed_on_one_line(
    bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "a\n\x1b[2Jb"
    shutil.copytree(bundle_copy, odd)
    assert main(["similarity", str(odd), "a\n\x1b[2J", "b", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    _assert_clean(printed)
    assert printed.count("\n") == 2
    assert main(["pack", str(odd), str(tmp_path / "c\nd.tar")]) == 0
    printed = capsys.readouterr().out
    _assert_clean(printed)
    assert printed.count("\n") == 1
    (odd / "probes.json").unlink()
    assert main(["verify", str(odd)]) == 1
    printed = capsys.readouterr().err
    _assert_clean(printed)
    *steps, message = printed.splitlines()
    assert message.startswith("monograph: error: ")
    assert all(PROGRESS.fullmatch(step) for step in steps), steps


def test_bad_usage_and_logs_are_printable(bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["info", str(bundle_copy), "x\n\x1b[2J"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert r"x\n\x1b[2J" in last
    from monograph.commands.main import _LineFormatter

    record = logging.LogRecord("monograph", logging.INFO, "", 1, "opened %s", ("a\n\x1b[2Jb",), None)
    assert _LineFormatter("%(message)s").format(record) == r"opened a\n\x1b[2Jb"


def test_a_route_that_fakes_a_line_is_escaped_by_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(__file__).parents[1] / "data" / "sparse-routes"
    bundle = Path(shutil.copytree(source, tmp_path / "bundle"))
    route = json.loads((bundle / "manifest.json").read_bytes())["graphs"][0]["route"]
    fake = json.dumps(f"{route}\npassed: 1 probes\x1b[2J")
    probes = (bundle / "probes.json").read_text("utf-8").replace(json.dumps(route), fake)
    (bundle / "probes.json").write_text(probes, "utf-8")
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8").replace(json.dumps(route), fake))
    content = (bundle / "probes.json").read_bytes()
    manifest["files"]["probes.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert main(["verify", str(bundle), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    _assert_clean(printed)
    assert sum(line.startswith("passed") for line in printed.splitlines()) == 1
