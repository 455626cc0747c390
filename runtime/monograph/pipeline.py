"""Texts through tokenizer, batches and engine, back in the order they came in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from monograph.batching import TokenBatch, deduplicate, pad_batch, pad_single, plan_batches, round_up_to_bucket
from monograph.bundle import Bundle
from monograph.bundle.manifest import POOLING_MASK, TokenizerSpec
from monograph.dynamic_batching import DynamicBatcher
from monograph.engines import Engine, EngineOptions, open_engine
from monograph.errors import BundleError, MonographError
from monograph.inputs import Input, with_prompt
from monograph.tokenization import TextTokenizer, TokenizedTexts

Outputs = NDArray[np.float32]
# Values of a batch's output: 32 MB, which are 274 texts of a sparse encoder with 30,522 tokens.
MAX_OUTPUT_VALUES = 8_388_608
# Tokens of what a warm-up takes for a short text.
_SHORT = 64


@dataclass(frozen=True)
class Pipeline:
    """A bundle's tokenizer and its graph on an engine: what every task of monograph runs on.

    ``task`` is the bundle's. What it computes an output of is called a text here; for reranking that is a pair.
    ``max_tokens_per_batch`` bounds the padded tokens of a batch of several texts, None for what the engine likes best.
    """

    tokenizer: TextTokenizer
    engine: Engine
    specification: TokenizerSpec
    output_width: int
    task: str
    max_tokens_per_batch: int | None = None
    _together: DynamicBatcher = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        most = min(self.engine.tokens_per_batch, self.max_tokens_per_batch or self.engine.tokens_per_batch)
        object.__setattr__(self, "_together", DynamicBatcher(self.engine.max_concurrency, most, self._max_batch_size))

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs of the graph."""
        return tuple(self.engine.graph.inputs)

    def outputs(
        self,
        texts: Sequence[Input],
        batch_size: int | None = None,
        on_batch: Callable[[int], object] = lambda _: None,
        prompt: str = "",
    ) -> Outputs:
        """Return the graph's output for each text, float32 [n, ``output_width``], in the texts' order.

        ``prompt`` is put before each text. Identical texts are computed once. ``on_batch`` is told the number of texts
        of each batch as it is done, and of few texts at once.
        """
        if len(texts) == 1:
            tokens = self.tokenize(texts, prompt)
            # A caller who sizes batches has none of another's texts in them.
            alone = batch_size is not None
            output = self._computed(tokens) if alone else self._together.outputs(tokens, self._computed)
            on_batch(1)
            return output
        unique, positions = deduplicate(texts)
        result = np.empty((len(unique), self.output_width), dtype=np.float32)
        for rows, outputs in self.stream(unique, batch_size, on_batch, prompt):
            result[rows] = outputs
        on_batch(len(texts) - len(unique))
        return result if positions is None else result[positions]

    def _computed(self, tokens: TokenizedTexts) -> Outputs:
        """Return the graph's output for few texts, float32 [n, ``output_width``], and for one by the shortest way."""
        if len(tokens.starts) == 2:
            return self.engine.run(
                pad_single(tokens, self.input_names, self.specification.pad_id, self._padding_buckets)
            )
        result = np.empty((len(tokens.lengths), self.output_width), dtype=np.float32)
        for batch, outputs in self.engine.stream(self.batches(tokens, self.plan(tokens))):
            result[batch.rows] = outputs
        return result

    def stream(
        self,
        texts: Sequence[Input],
        batch_size: int | None = None,
        on_batch: Callable[[int], object] = lambda _: None,
        prompt: str = "",
    ) -> Iterator[tuple[NDArray[np.intp], Outputs]]:
        """Yield the graph's output batch by batch: which texts (intp [b]), and float32 [b, ``output_width``].

        The arguments are those of ``outputs``; a text that is there twice is computed twice.
        """
        tokens = self.tokenize(texts, prompt)
        if batch_size is None and self._together.fits(tokens):
            yield np.arange(len(texts)), self._together.outputs(tokens, self._computed)
            on_batch(len(texts))
            return
        for batch, outputs in self.engine.stream(self.batches(tokens, self.plan(tokens, batch_size))):
            yield batch.rows, outputs
            on_batch(len(batch.rows))

    def warmup(self) -> None:
        """Run one text of each width that short texts are padded to, or one text where there are none."""
        longest = min(_SHORT, self.specification.max_length or _SHORT)
        padding_buckets = (
            np.array([longest])
            if self._padding_buckets is None
            else self._padding_buckets[self._padding_buckets <= longest]
        )
        starts = np.concatenate(([0], np.cumsum(padding_buckets)))
        ids = np.full(starts[-1], self.specification.pad_id, dtype=np.int64)
        tokens = TokenizedTexts(ids, np.zeros_like(ids), starts)
        for batch in self.batches(tokens, iter(np.arange(len(padding_buckets))[:, np.newaxis])):
            self.engine.run(batch.inputs)

    def tokenize(self, texts: Sequence[Input], prompt: str = "") -> TokenizedTexts:
        """Tokenize texts, each by itself, behind a prompt and without padding.

        Raises:
            MonographError: the tokenizer gives an id that the embedding table has no row for.

        """
        tokens = self.tokenizer([with_prompt(text, prompt) for text in texts] if prompt else texts)
        largest = int(tokens.ids.max(initial=0))
        # Checked here because engines differ: ONNX Runtime fails, OpenVINO goes on with a row of zeros.
        if largest >= self.specification.vocabulary_size:
            raise MonographError(
                f"the tokenizer gives the id {largest}, the vocabulary has {self.specification.vocabulary_size}: "
                "export it again"
            )
        if prompt and POOLING_MASK in self.input_names:
            tokens = replace(tokens, prompt_length=self._prompt_tokens(prompt))
        return tokens

    def _prompt_tokens(self, prompt: str) -> int:
        """Return the tokens of a prompt by itself, without a special one at its end, as Sentence Transformers counts.

        What is before the prompt, such as [CLS], counts as part of it.
        """
        ids = self.tokenizer([prompt]).ids
        return len(ids) - int(ids[-1] in self.specification.special_ids) if len(ids) else 0

    @property
    def _padding_buckets(self) -> NDArray[np.int64] | None:
        """The widths that batches are padded to; where a vector depends on neighbours, it does on padding, too."""
        return None if self.engine.graph.max_batch_size == 1 else self.engine.padding_buckets

    def plan(self, tokens: TokenizedTexts, batch_size: int | None = None) -> Iterator[NDArray[np.intp]]:
        """Yield the positions (intp [rows]) of the texts of each batch, as the engine's widths and prices want them."""
        padded = round_up_to_bucket(tokens.lengths, self._padding_buckets)
        return plan_batches(
            padded,
            self.engine.tokens_per_batch,
            batch_size,
            self._max_batch_size,
            self.max_tokens_per_batch,
            few_shapes=self._padding_buckets is not None,
        )

    @property
    def _max_batch_size(self) -> int:
        rows = max(1, MAX_OUTPUT_VALUES // self.output_width)
        return min(rows, self.engine.graph.max_batch_size or rows)

    def batches(self, tokens: TokenizedTexts, plan: Iterator[NDArray[np.intp]]) -> Iterator[TokenBatch]:
        """Yield the batches of a plan, each padded only when it is asked for."""
        padding_buckets = self._padding_buckets
        return (pad_batch(tokens, rows, self.input_names, self.specification.pad_id, padding_buckets) for rows in plan)


def load_pipeline(
    bundle: Bundle,
    route: str | None,
    tokenizer: TextTokenizer,
    options: EngineOptions,
    *,
    check_verifications: bool = True,
) -> Pipeline:
    """Load the graph of a bundle's route on one device beside its tokenizer; ``check_verifications`` as in ``open_engine``.

    Raises:
        BundleError: the engine cannot load the graph.
        DeviceError: the device cannot run the bundle here.

    """
    manifest = bundle.manifest
    engine = open_engine(bundle, options, route, check_verifications=check_verifications)
    return Pipeline(tokenizer, engine, manifest.tokenizers[route], manifest.output_width, manifest.task)


def load_tokenizer(bundle: Bundle, specification: TokenizerSpec) -> TextTokenizer:
    """Load a tokenizer of a bundle.

    Raises:
        BundleError: it cannot be loaded, or cuts texts elsewhere than the manifest says.

    """
    tokenizer = TextTokenizer(bundle.path / specification.file)
    if tokenizer.max_length != specification.max_length:
        found, stated = tokenizer.max_length, specification.max_length
        raise BundleError(bundle.path, [f"the tokenizer truncates to {found} tokens, the manifest says {stated}"])
    return tokenizer
