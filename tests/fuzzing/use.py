"""A bundle as its callers use it: opened, encoded with, described and verified."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuzzing.outcomes import ERROR, RESULT, Violation, check_message, check_printable, limited
from fuzzing.workplace import MANIFEST, MEASUREMENTS
from monograph import CrossEncoder, Embedder, MonographError, SparseEncoder, load
from monograph.commands import main

TEXTS = ("a harbour at night", "", "Zwölf Boote, 3 Möwen & l'île — 日本 " * 8)
_PREFIX = "monograph: error: "


def open_model(folder: Path, device: str) -> Any:
    """Open a bundle with one thread."""
    with limited("opening"):
        return load(folder, device=device, threads=1)


def encode(model: Any, texts: tuple[str, ...] = TEXTS) -> NDArray[Any]:
    """Return what the model gives for texts without a prompt, of a route its query's: [n, width].

    Raises:
        Violation: it is not of the promised shape, or not finite.

    """
    with limited("encoding"):
        if isinstance(model, CrossEncoder):
            outputs = model.predict([(texts[0], text) for text in texts], prompt="").reshape(len(texts), -1)
            width = model.num_labels
        elif isinstance(model, SparseEncoder):
            call = model.encode if model.manifest.routing is None else model.encode_query
            outputs, width = call(list(texts), prompt="").toarray(), model.dimension
        else:
            assert isinstance(model, Embedder)
            outputs, width = model.encode(list(texts), prompt=""), model.dimension
    _check_outputs(outputs, (len(texts), width))
    return outputs


def use_prompts(model: Any) -> None:
    """Encode with every prompt that the manifest has, and with the default one; a MonographError is an answer too."""
    for name in [None, *list(model.manifest.prompts)[:4]]:
        with contextlib.suppress(MonographError):
            if isinstance(model, CrossEncoder):
                outputs = model.predict([TEXTS[:2]], prompt_name=name)
            elif isinstance(model, SparseEncoder):
                outputs = model.encode(list(TEXTS[:1]), prompt_name=name).toarray()
            else:
                outputs = model.encode(list(TEXTS[:1]), prompt_name=name)
            _check_outputs(outputs, outputs.shape)
            if len(outputs) != 1:
                raise Violation("shape of outputs", f"{outputs.shape} for one text")


def run_command(*arguments: object) -> tuple[int, str]:
    """Run a command in this process and return its exit code and its output.

    Raises:
        Violation: an error is not one line, or one of the lines has control characters.

    """
    # Standard error escapes what it cannot encode, and the command sets standard output to do so.
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", "\n") for _ in range(2)]
    redirected = contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1])
    with limited(str(arguments[0])), redirected[0], redirected[1]:
        code = main([str(argument) for argument in arguments])
    output, errors = (_content(stream) for stream in streams)
    for line in output.split("\n"):
        check_printable(line, "line of output")
    lines = errors.split("\n")[:-1]
    if code and lines:
        if len(lines) > 1 or not lines[0].startswith(_PREFIX):
            raise Violation("lines of an error", repr(errors[:500]))
        check_message(lines[0].removeprefix(_PREFIX))
    elif code and not output:
        raise Violation("exit without an error", f"{arguments[0]}: exit code {code}")
    return code, output


def check_info(folder: Path, *, as_json: bool) -> None:
    """Describe the bundle; require that no line of it claims more verifications than are stated."""
    code, output = run_command("info", folder, *(["--json"] if as_json else []))
    if code:
        return
    if as_json:
        json.loads(output)
        return
    measurements = folder / MEASUREMENTS
    if measurements.exists():
        stated = len(json.loads(measurements.read_bytes())["verifications"])
    else:
        stated = len(json.loads((folder / MANIFEST).read_bytes())["quality"]["verifications"])
    if (lines := output.count("\nverified")) != stated:
        raise Violation("made-up line of info", f"{lines} lines for {stated} verifications: {output[:500]}")


def verify(folder: Path, device: str) -> str:
    """Verify the bundle as the command does and return RESULT if it passed, else ERROR."""
    code, _ = run_command("verify", folder, "--device", device, "--compute-dtype", "auto", "--threads", 1, "--quiet")
    return ERROR if code else RESULT


def check_equal(outputs: NDArray[Any], reference: NDArray[Any]) -> None:
    """Require the outputs of the bundle before it was mutated.

    Raises:
        Violation: they differ.

    """
    if outputs.shape != reference.shape or not np.array_equal(outputs, reference):
        raise Violation("other outputs than the bundle's", f"{outputs.shape} {outputs.ravel()[:3]}")


def _check_outputs(outputs: NDArray[Any], shape: tuple[int, ...]) -> None:
    if outputs.shape != shape:
        raise Violation("shape of outputs", f"{outputs.shape} instead of {shape}")
    if outputs.dtype != np.float32 or not np.isfinite(outputs).all():
        raise Violation("values of outputs", f"{outputs.dtype} {outputs[~np.isfinite(outputs)][:4]}")


def _content(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8")
