"""Pooling: from the vectors of tokens to one of their text, each mode in NumPy and as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from monograph_export.from_onnx.operators import Appender

_MIN_COUNT = 1e-9
# Below every value. Not infinity, of which a text without any token would make a vector that is no number.
_LOWEST = float(np.finfo(np.float32).min)


class _Tokens:
    """The tokens of a graph's batch, and what several modes need of them, appended once."""

    def __init__(self, append: Appender, vectors: ir.Value, mask: ir.Value) -> None:
        self.append = append
        self.vectors = vectors
        self._mask = mask
        self._known: dict[str, ir.Value] = {}

    def _once(self, name: str, make: Callable[[], ir.Value]) -> ir.Value:
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    @property
    def mask(self) -> ir.Value:
        """1 for a token and 0 for padding, float32 [batch, sequence, 1]."""
        append = self.append
        return self._once("mask", lambda: append.over("Unsqueeze", append.cast(self._mask, ir.DataType.FLOAT), 2))

    @property
    def sum(self) -> ir.Value:
        """The sum of the tokens' vectors, float32 [batch, width]."""
        return self._once("sum", lambda: self.weighted_sum(self.mask))

    @property
    def count(self) -> ir.Value:
        """The number of tokens, a little above 0 for none, float32 [batch, 1]."""
        return self._once("count", lambda: self.total(self.mask))

    @property
    def ordinals(self) -> ir.Value:
        """1, 2, 3 and so on for the tokens, int64 [batch, sequence]; the last one's goes on over the padding."""
        append = self.append
        return self._once("ordinals", lambda: append.op("CumSum", self._mask, append.constant(1, np.int64)))

    @property
    def last(self) -> ir.Value:
        """1 for the last token and 0 for all else, float32 [batch, sequence, 1]."""
        append = self.append
        is_last = append.op("Equal", self.ordinals, append.over("ReduceSum", self._mask, 1, keep=True))
        return append.op("Mul", append.over("Unsqueeze", append.cast(is_last, ir.DataType.FLOAT), 2), self.mask)

    def weighted_sum(self, weights: ir.Value) -> ir.Value:
        """Return the sum of the vectors times their weights (float32 [batch, sequence, 1]), float32 [batch, width]."""
        return self.append.over("ReduceSum", self.append.op("Mul", self.vectors, weights), 1, keep=False)

    def total(self, weights: ir.Value) -> ir.Value:
        """Return the sum of weights (float32 [batch, sequence, 1]), a little above 0 for none, float32 [batch, 1]."""
        append = self.append
        return append.op("Max", append.over("ReduceSum", weights, 1, keep=False), append.constant(_MIN_COUNT))


def _append_cls(tokens: _Tokens) -> ir.Value:
    # The first token is at position 0, for texts are padded on the right.
    return tokens.append.op("Gather", tokens.vectors, tokens.append.constant(0, np.int64), attributes={"axis": 1})


def _append_max(tokens: _Tokens) -> ir.Value:
    append = tokens.append
    is_token = append.cast(tokens.mask, ir.DataType.BOOL)
    masked = append.op("Where", is_token, tokens.vectors, append.constant(_LOWEST))
    return append.over("ReduceMax", masked, 1, keep=False)


def _append_mean(tokens: _Tokens) -> ir.Value:
    return tokens.append.op("Div", tokens.sum, tokens.count)


def _append_mean_sqrt_len(tokens: _Tokens) -> ir.Value:
    return tokens.append.op("Div", tokens.sum, tokens.append.op("Sqrt", tokens.count))


def _append_weighted_mean(tokens: _Tokens) -> ir.Value:
    append = tokens.append
    ordinals = append.over("Unsqueeze", append.cast(tokens.ordinals, ir.DataType.FLOAT), 2)
    weights = append.op("Mul", ordinals, tokens.mask)
    return append.op("Div", tokens.weighted_sum(weights), tokens.total(weights))


def _append_last_token(tokens: _Tokens) -> ir.Value:
    return tokens.weighted_sum(tokens.last)


Vectors = NDArray[np.float64]


def _weighted_mean(tokens: Vectors, mask: Vectors) -> Vectors:
    weights = np.arange(1, len(tokens) + 1) * mask
    return np.asarray(weights @ tokens / max(weights.sum(), _MIN_COUNT))


def _last_token(tokens: Vectors, mask: Vectors) -> Vectors:
    last = int(np.flatnonzero(mask).max(initial=0))
    return np.asarray(tokens[last] * mask[last])


@dataclass(frozen=True)
class _Mode:
    """A mode in NumPy, of one text's tokens (float64 [s, d] and mask [s], to [d]), and in ONNX, of a batch's."""

    compute: Callable[[Vectors, Vectors], Vectors]
    append: Callable[[_Tokens], ir.Value]


_MODES: Mapping[str, _Mode] = {
    "cls": _Mode(lambda tokens, mask: tokens[int(mask.argmax())], _append_cls),
    "max": _Mode(lambda tokens, mask: np.where(mask[:, np.newaxis] > 0, tokens, _LOWEST).max(axis=0), _append_max),
    "mean": _Mode(lambda tokens, mask: mask @ tokens / max(mask.sum(), _MIN_COUNT), _append_mean),
    "mean_sqrt_len_tokens": _Mode(
        lambda tokens, mask: mask @ tokens / np.sqrt(max(mask.sum(), _MIN_COUNT)), _append_mean_sqrt_len
    ),
    "weightedmean": _Mode(_weighted_mean, _append_weighted_mean),
    "lasttoken": _Mode(_last_token, _append_last_token),
}


@dataclass(frozen=True)
class Pooling:
    """Modes, side by side in one vector, of tokens that are ``token_width`` wide."""

    token_width: int
    modes: tuple[str, ...] = field(default=("mean",))

    @property
    def width(self) -> int:
        """The columns of what comes out."""
        return self.token_width * len(self.modes)

    def compute(self, tokens: Vectors, mask: Vectors) -> Vectors:
        """Return the vector (float64 [d]) of one text from its tokens' (float64 [s, w]) and their mask ([s])."""
        return np.concatenate([_MODES[mode].compute(tokens, mask) for mode in self.modes])

    def append(self, append: Appender, vectors: ir.Value, mask: ir.Value) -> ir.Value:
        """Append the same for a batch: from float32 [b, s, w] and the int64 mask [b, s] to float32 [b, d]."""
        tokens = _Tokens(append, vectors, mask)
        parts = [_MODES[mode].append(tokens) for mode in self.modes]
        return parts[0] if len(parts) == 1 else append.op("Concat", *parts, attributes={"axis": 1})
