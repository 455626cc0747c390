"""The reference of a bundle made from an ONNX file: that file, run by ONNX Runtime, and its modules in NumPy.

ONNX Runtime optimizes the file as it does for everyone. Other fusions move float32 values by 1e-7; where a graph rounds
them to the 256 levels of its activations, now and then one goes the other way: without any, MiniLM's int8 file of
optimum came to a cosine of 0.9915 for one of 195 texts, and to 1 for most. So the bundle has what the fusions need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.batching import pad_batch
from monograph.bundle import Probes
from monograph.cpu import available_cpus
from monograph.engines.onnxruntime import import_onnxruntime
from monograph.errors import ExportError, ParityError, first_line
from monograph.tasks.embedding import EMBEDDING
from monograph.tokenization import TextTokenizer, TokenizedTexts
from monograph_export.checkpoint.max_length import lowered_length
from monograph_export.from_onnx.encoder import Encoder
from monograph_export.from_onnx.head import Head

# RoBERTa's padding has id 1, and the rows of its table up to there.
_PADDING_ROWS = 2
_SOME_TOKEN = 5
# More positions are rotary ones, which have no table, and a text of so many tokens takes minutes.
_LARGEST_TABLE = 8192


@dataclass(frozen=True)
class FileRunner:
    """Runs ONNX files on texts one by one, each alone and unpadded."""

    tokenizer: TextTokenizer
    pad_id: int

    def outputs(
        self, file: Path, output: str, texts: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """Yield the mask (int64 [1, s]) and one output, by its name, of each text.

        Raises:
            ExportError: ONNX Runtime cannot load or run the file.

        """
        session = _session(file)
        names = [value.name for value in session.get_inputs()]
        tokens = self.tokenizer(texts)
        for row in range(len(texts)):
            inputs = self._inputs(tokens, row, names)
            yield inputs["attention_mask"], _run(session, file, output, inputs)

    def _inputs(self, tokens: TokenizedTexts, row: int, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        return pad_batch(tokens, np.array([row]), names, self.pad_id).inputs


def longest_text(encoder: Encoder, limit: int | None, positions: int | None) -> int | None:
    """Return the tokens of the longest text that an encoder's file runs on, where that is below ``limit``, else None.

    ``positions`` is what the checkpoint's config states, the padding's among them; without one nothing is tried.

    Raises:
        ExportError: ONNX Runtime cannot load the file.

    """
    if positions is None or positions > _LARGEST_TABLE:
        return None
    session = _session(encoder.file)

    def runs(length: int) -> bool:
        # Some token that pads nothing.
        ids = np.full((1, length), _SOME_TOKEN, dtype=np.int64)
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.arange(length)[np.newaxis],
        }
        try:
            session.run([encoder.tokens_name], {name: inputs[name] for name in encoder.input_names})
        except Exception:  # noqa: BLE001 - of any class; a file that runs on no length is refused by the probes
            return False
        return True

    return lowered_length(runs, limit, positions, {positions, positions - _PADDING_ROWS})


def make_probes(
    encoder: Encoder,
    head: Head,
    runner: FileRunner,
    texts: list[str],
    on_texts: Callable[[int], object] = lambda _: None,
) -> Probes:
    """Return texts with the reference for each: float32 [n, d], each text alone.

    The encoder is run from its file as it is, and pooling and what follows it are computed at float64. ``on_texts`` is
    called with the number of further texts that are done.

    Raises:
        ExportError: ONNX Runtime cannot run the encoder, its vectors are of another width than the checkpoint's, or
            they are not finite.

    """
    pooled = []
    for mask, tokens in runner.outputs(encoder.file, encoder.tokens_name, texts):
        if tokens.ndim != 3 or tokens.shape[-1] != head.pooling.token_width:
            raise ExportError(
                f"{encoder.file} gives {encoder.tokens_name} as {list(tokens.shape)}, and the checkpoint pools vectors "
                f"of {head.pooling.token_width}: the file is another model's"
            )
        pooled.append(head.pooling.compute(tokens[0].astype(np.float64), mask[0].astype(np.float64)))
        on_texts(1)
    vectors = np.stack(pooled)
    for module in head.modules:
        vectors = module.compute(vectors)
    reference = vectors.astype(np.float32)
    if not np.isfinite(reference).all():
        raise ExportError(f"{encoder.file}, or a module behind it, gives vectors that are not finite: it is damaged")
    return Probes(tuple(texts), tuple(runner.tokenizer(texts).lengths.tolist()), reference)


def check_modules(
    file: Path,
    runner: FileRunner,
    probes: Probes,
    tolerance: float,
    on_texts: Callable[[int], object] = lambda _: None,
) -> None:
    """Compare a graph that rounds by itself with the reference, run as that was.

    Its verification requires a cosine only, which a wrong module could pass; here the encoder rounds alike in both.

    Raises:
        ParityError: a vector differs by more than ``tolerance`` times the largest value.

    """
    parts = []
    for _, rows in runner.outputs(file, EMBEDDING.output, probes.single_texts):
        parts.append(rows)
        on_texts(1)
    vectors = np.concatenate(parts)
    difference = float(np.abs(vectors - probes.vectors).max())
    allowed = tolerance * max(1.0, float(np.abs(probes.vectors).max()))
    if not difference <= allowed:
        raise ParityError(
            f"the graph does not equal the encoder's file and NumPy on onnxruntime: max abs difference "
            f"{difference:.2e} exceeds {allowed:.2e}"
        )


def _session(file: Path) -> Any:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load {file}: {first_line(error)}") from error


def _run(session: Any, file: Path, output: str, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.floating]:
    try:
        return np.asarray(session.run([output], dict(inputs))[0])
    except Exception as error:
        length = inputs["input_ids"].shape[1]
        raise ExportError(
            f"ONNX Runtime cannot run {file} on a text of {length} tokens, which max_seq_length allows: "
            f"{first_line(error)}"
        ) from error
