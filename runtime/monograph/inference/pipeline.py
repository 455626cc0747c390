"""Texts through tokenizer, batches and engine, back in the order they came in."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.batching import (
    TokenBatch,
    deduplicate,
    pad_batch,
    pad_single,
    plan_batches,
    round_up_to_bucket,
    split_into_windows,
)
from monograph.bundle.manifest import POOLING_MASK, TokenizerSpec
from monograph.engines import Engine
from monograph.engines.native import check_process
from monograph.engines.reentry import run_non_reentrant
from monograph.errors import MonographError
from monograph.inference.scheduler import Scheduler
from monograph.inference.token_vectors import choose_tokens, split_by_text
from monograph.inputs import Input, InputT, UnusableTextError, add_prompt, noun_of
from monograph.progress import BAR_LEVELS
from monograph.tasks.base import Outputs, PostProcess, ResultT, scatter_rows
from monograph.tokenization import Side, TextTokenizer, TokenizedTexts

logger = logging.getLogger(__name__)
# Values of a batch's output: 32 MB, which are 274 texts of a sparse encoder with 30,522 tokens.
MAX_OUTPUT_VALUES = 8_388_608
# Tokens of what a warm-up considers a short text.
_SHORT = 64
# The rows of a batch of one text.
_FIRST = np.zeros(1, dtype=np.intp)
# Batch, sequence and dimension.
_TOKEN_AXES = 3


class OutputError(MonographError):
    """An engine returned something else than one finite row for each text."""


class BatchRunner:
    """Runs tokenized texts on an engine, in padded batches of bounded cost, and checks what it returns.

    ``max_tokens_per_batch`` bounds the padded tokens of a batch of several texts, None for what the engine likes best.
    ``output`` names another output than the graph's first.
    """

    def __init__(
        self,
        engine: Engine,
        specification: TokenizerSpec,
        output_width: int,
        max_tokens_per_batch: int | None,
        output: str | None = None,
    ) -> None:
        self.engine = engine
        self.output_width = output_width
        # None for the first, which every engine gives without its name.
        self._output = output
        stated = engine.graph.outputs[next(iter(engine.graph.outputs)) if output is None else output]
        # The output is of the tokens where it has an axis for them.
        self.per_token = len(stated.shape) == _TOKEN_AXES
        self.max_length = specification.max_length
        self.max_cost = min(engine.tokens_per_batch, max_tokens_per_batch or engine.tokens_per_batch)
        rows = max(1, MAX_OUTPUT_VALUES // output_width)
        self.max_batch_size = min(rows, engine.graph.max_batch_size or rows)
        self.input_names = tuple(engine.graph.inputs)
        # Where a vector depends on its neighbours, it depends on padding, too.
        self.padding_buckets = None if engine.graph.max_batch_size == 1 else engine.padding_buckets
        self._pad_id = specification.pad_id
        self._max_tokens = max_tokens_per_batch

    def run(self, tokens: TokenizedTexts) -> Outputs:
        """Return the graph's output for each text, float32 [n, ``output_width``], in the texts' order.

        Where it is of the tokens, a text has a matrix: objects [n], each float32 [tokens, ``output_width``].

        Raises:
            OutputError: the engine returned something else.

        """
        if len(tokens.starts) == 2:
            single = pad_single(tokens, self.input_names, self._pad_id, self.padding_buckets)
            return self._check(self.engine.run(single, self._output), tokens, _FIRST)
        return self.gather(self.stream(tokens), len(tokens.lengths))

    def gather(self, parts: Iterable[tuple[NDArray[np.intp], Outputs]], count: int) -> Outputs:
        """Return the outputs of ``count`` texts in order, from parts, each with the positions of its texts."""
        if self.per_token:
            return scatter_rows(parts, (count,), np.object_)
        return scatter_rows(parts, (count, self.output_width), np.float32)

    def stream(
        self, tokens: TokenizedTexts, batch_size: int | None = None
    ) -> Iterator[tuple[NDArray[np.intp], Outputs]]:
        """Yield the graph's output batch by batch: the texts' positions (intp [b]), and float32 [b, width]."""
        return self.run_batches(tokens, self.plan(tokens, batch_size))

    def plan(self, tokens: TokenizedTexts, batch_size: int | None = None) -> Iterator[NDArray[np.intp]]:
        """Yield the positions (intp [rows]) of the texts of each batch."""
        return self.plan_lengths(tokens.lengths, batch_size)

    def plan_lengths(self, lengths: NDArray[np.int64], batch_size: int | None = None) -> Iterator[NDArray[np.intp]]:
        """Yield the positions (intp [rows]) of the texts of each batch, of texts of these token counts (int64 [n])."""
        return plan_batches(
            round_up_to_bucket(lengths, self.padding_buckets),
            self.engine.tokens_per_batch,
            batch_size,
            self.max_batch_size,
            self._max_tokens,
            few_shapes=self.padding_buckets is not None,
            run_cost=self.engine.run_cost,
        )

    def pad(self, tokens: TokenizedTexts, plan: Iterable[NDArray[np.intp]]) -> Iterator[TokenBatch]:
        """Yield the batches of a plan, each padded only when it is needed."""
        return (pad_batch(tokens, rows, self.input_names, self._pad_id, self.padding_buckets) for rows in plan)

    def pad_all(self, tokens: TokenizedTexts) -> dict[str, NDArray[np.int64]]:
        """Return all texts as the inputs of one batch, int64 [n, s], as long as the longest text."""
        rows = np.arange(len(tokens.lengths))
        return pad_batch(tokens, rows, self.input_names, self._pad_id).inputs

    def run_batches(
        self, tokens: TokenizedTexts, plan: Iterable[NDArray[np.intp]]
    ) -> Iterator[tuple[NDArray[np.intp], Outputs]]:
        """Yield the graph's output for each batch of a plan, in any order.

        Raises:
            OutputError: the engine returned something else.

        """
        running: set[int] = set()

        def started() -> Iterator[TokenBatch]:
            for batch in self.pad(tokens, plan):
                running.add(id(batch))
                yield batch

        for batch, outputs in self.engine.stream(started(), self._output):
            if id(batch) not in running:
                raise OutputError(f"{self._engine_name} returned a batch twice: choose another device")
            running.remove(id(batch))
            yield batch.rows, self._check(outputs, tokens, batch.rows)
        if running:
            raise OutputError(f"{self._engine_name} left out {len(running)} batches: choose another device")

    def warm_up(self) -> None:
        """Run one text of each length that short texts are padded to, or one text where they are not padded."""
        longest, buckets = min(_SHORT, self.max_length or _SHORT), self.padding_buckets
        lengths = np.array([longest]) if buckets is None else buckets[buckets <= longest]
        starts = np.concatenate(([0], np.cumsum(lengths)))
        ids = np.full(starts[-1], self._pad_id, dtype=np.int64)
        tokens = TokenizedTexts(ids, np.zeros_like(ids), starts)
        for batch in self.pad(tokens, np.arange(len(lengths))[:, np.newaxis]):
            self._check(run_non_reentrant(self.engine.run, batch.inputs, self._output), tokens, batch.rows)

    def _check(self, outputs: NDArray[np.float32], tokens: TokenizedTexts, rows: NDArray[np.intp]) -> Outputs:
        """Return an engine's output for the texts ``rows`` (intp [b]) if it is finite float32 [b, ``output_width``].

        NumPy would spread a single row over all texts, and a text's own numbers say nothing of what they should be.
        Of token vectors, [b, s, ``output_width``], those of padding are left out.
        """
        due: tuple[int, ...] = (len(rows), self.output_width)
        if self.per_token:
            due = (len(rows), self._padded_length(tokens, rows), self.output_width)
        if outputs.shape != due or outputs.dtype != np.float32:
            raise OutputError(
                f"{self._engine_name} returned {outputs.dtype} {list(outputs.shape)} where float32 "
                f"{list(due)} was due: run `monograph verify` on the bundle, or choose another device"
            )
        results: Outputs = split_by_text(outputs, tokens, rows) if self.per_token else outputs
        finite = [np.isfinite(result).all() for result in results] if self.per_token else np.isfinite(outputs)
        if not np.all(finite):
            wrong = sum(not np.isfinite(result).all() for result in results)
            raise OutputError(
                f"{self._engine_name} returned NaN or infinity for {wrong} of {len(rows)} texts: run `monograph "
                "verify` on the bundle, or choose another device or compute_dtype"
            )
        return results

    def _padded_length(self, tokens: TokenizedTexts, rows: NDArray[np.intp]) -> int:
        longest = tokens.lengths[rows].max(initial=1, keepdims=True)
        return int(round_up_to_bucket(longest, self.padding_buckets)[0])

    @property
    def _engine_name(self) -> str:
        return f"{self.engine.name} {self.engine.version} on {self.engine.device!r}"


class Pipeline:
    """A tokenizer, and a graph on an engine: what every task of monograph runs on.

    What it computes an output of is called a text here; for reranking that is a pair.
    """

    def __init__(self, tokenizer: TextTokenizer, specification: TokenizerSpec, runner: BatchRunner) -> None:
        self.tokenizer = tokenizer
        self.runner = runner
        self.engine = runner.engine
        self.specification = specification
        self._process = os.getpid()
        self._scheduler = Scheduler(runner.run, self.engine.max_concurrency, runner.max_cost, runner.max_batch_size)

    def map(
        self,
        texts: Iterable[InputT],
        post_process: PostProcess[ResultT],
        prompt: str = "",
        batch_size: int | None = None,
        on_texts: Callable[[int], object] = lambda _: None,
    ) -> Iterator[ResultT]:
        """Yield the results of texts in their order: of a list all at once, of another iterable in blocks.

        Equal texts, of a list or of a block, are computed once. ``prompt`` is put before each text. ``on_texts`` is
        called with the number of further texts that are done, batch by batch.
        """
        if isinstance(texts, list) and len(texts) == 1:
            # Nothing to deduplicate or to order. Behind a run the CPU's caches hold weights, and Python code is slow.
            for _, outputs in self.outputs(texts, prompt, batch_size):
                on_texts(1)
                yield post_process(outputs)
            return
        # Texts are tokenized, and sorted by length, a window at a time: memory is bounded by it, not by the corpus.
        blocks = [texts] if isinstance(texts, list) else split_into_windows(texts)
        start = 0
        for block in blocks:
            distinct, positions = deduplicate(block)
            parts = self._compute(distinct, post_process, prompt, batch_size, on_texts)
            try:
                results = post_process.collect(parts, len(distinct))
            except UnusableTextError as error:
                first = error.position if positions is None else int((positions == error.position).argmax())
                raise error.at(start + first) from None
            start += len(block)
            on_texts(len(block) - len(distinct))
            if positions is not None:
                # In their place: those of the distinct texts would be held while the caller uses the block.
                results = post_process.take(results, positions)
            yield results

    def _compute(
        self,
        texts: Sequence[Input],
        post_process: PostProcess[ResultT],
        prompt: str,
        batch_size: int | None,
        on_texts: Callable[[int], object],
    ) -> Iterator[tuple[NDArray[np.intp], ResultT]]:
        """Yield the results of distinct texts with their positions, in any order."""
        start = 0
        for window in split_into_windows(texts):
            try:
                batches = self.outputs(window, prompt, batch_size)
            except UnusableTextError as error:
                raise error.at(start + error.position) from None
            for rows, outputs in batches:
                yield rows + start, post_process(outputs)
                on_texts(len(rows))
            start += len(window)

    def outputs(
        self, texts: Sequence[Input], prompt: str = "", batch_size: int | None = None
    ) -> Iterable[tuple[NDArray[np.intp], Outputs]]:
        """Return the graph's output batch by batch: the texts' positions (intp [b]), and float32 [b, width]."""
        tokens = self.tokenize(texts, prompt)
        # A caller who sets the size of batches shares none with others.
        if batch_size is None and self._scheduler.accepts(tokens):
            return [(np.arange(len(texts)), run_non_reentrant(self._scheduler.run, tokens))]
        return _step_by_step(self.runner.stream(tokens, batch_size))

    def compute(self, tokens: TokenizedTexts) -> Outputs:
        """Return the graph's output for texts that are tokenized already, in their order.

        Raises:
            MonographError: this process was forked from the one in which the model was opened, or the engine failed.

        """
        check_process(self._process)
        return run_non_reentrant(self.runner.run, tokens)

    def tokenize(self, texts: Sequence[Input], prompt: str = "") -> TokenizedTexts:
        """Tokenize texts, each by itself, behind a prompt and without padding.

        Raises:
            UnusableTextError: a text has a token without an embedding, or no token where the model needs one.
            MonographError: this process was forked from the one in which the model was opened.

        """
        # Here, before anything native runs: tokenizers may have lost its threads as well as the engine.
        check_process(self._process)
        return self._checked(self.tokenizer(_after(prompt, texts)), texts, prompt)

    def tokenize_with_cuts(
        self, texts: Sequence[Input], prompt: str = "", side: Side | None = None
    ) -> tuple[TokenizedTexts, NDArray[np.bool_]]:
        """Tokenize texts as ``tokenize`` does, and return with the tokens which texts were cut (bool [n]).

        ``side`` is where too long texts are cut, None for the model's own. The prompt counts as part of its text.

        Raises:
            UnusableTextError: as ``tokenize``.
            MonographError: as ``tokenize``.

        """
        check_process(self._process)
        tokenizer = self.tokenizer if side is None else self.tokenizer.cutting(side)
        tokens, cut = tokenizer.with_cuts(_after(prompt, texts))
        return self._checked(tokens, texts, prompt), cut

    def _checked(self, tokens: TokenizedTexts, texts: Sequence[Input], prompt: str) -> TokenizedTexts:
        # Checked here because engines differ: ONNX Runtime fails, OpenVINO goes on with a row of zeros.
        if int(tokens.ids.max(initial=0)) >= self.specification.vocabulary_size:
            raise self._without_embedding(texts, tokens)
        if self.specification.min_length and not tokens.lengths.all():
            position = int((tokens.lengths == 0).argmax())
            raise UnusableTextError(
                noun_of(texts[position]),
                position,
                "has no tokens, and this model, in sentence-transformers as well, has no output for it: leave it out",
            )
        if prompt and POOLING_MASK in self.runner.input_names:
            tokens = replace(tokens, prompt_length=self._prompt_length(prompt))
        return choose_tokens(tokens, self.specification) if self.runner.per_token else tokens

    def _without_embedding(self, texts: Sequence[Input], tokens: TokenizedTexts) -> UnusableTextError:
        place = int((tokens.ids >= self.specification.vocabulary_size).argmax())
        position, id_ = int(tokens.starts.searchsorted(place, side="right")) - 1, int(tokens.ids[place])
        return UnusableTextError(
            noun_of(texts[position]),
            position,
            f"holds the token {self.tokenizer.token(id_)!r} (id {id_}), for which this model has no embedding: take it "
            "out of the text, or of the prompt before it",
        )

    def _prompt_length(self, prompt: str) -> int:
        """Return the tokens of a prompt by itself, without a special one at its end, as Sentence Transformers counts.

        What is before the prompt, such as [CLS], counts as part of it.
        """
        ids = self.tokenizer([prompt]).ids
        return len(ids) - int(ids[-1] in self.specification.special_ids) if len(ids) else 0


def _after(prompt: str, texts: Sequence[Input]) -> Sequence[Input]:
    return [add_prompt(text, prompt) for text in texts] if prompt else texts


def _step_by_step(batches: Iterator[tuple[NDArray[np.intp], Outputs]]) -> Iterator[tuple[NDArray[np.intp], Outputs]]:
    """Yield what an iterator yields; between two of its steps, the caller's own code may make other calls."""
    while (batch := run_non_reentrant(next, batches, None)) is not None:
        yield batch


@contextmanager
def show_progress(
    total: int | None, show: bool | None, noun: str, initial: int = 0
) -> Iterator[Callable[[int], object]]:
    """Show a progress bar over texts or pairs if wanted, and give the function that advances it.

    ``total`` is their number, None where it is not known; ``initial`` how many are done already.
    """
    # The rule of SentenceTransformer.encode: by default, show the bar to those who log at INFO or more.
    shown = logger.getEffectiveLevel() in BAR_LEVELS if show is None else show
    if not shown:
        # Not a disabled bar: tqdm makes a semaphore, which a worker of multiprocessing leaves behind with a warning.
        yield lambda _: None
        return
    # An eighth of the time of `import monograph`, and few callers want a bar.
    from tqdm import tqdm

    bar: tqdm[Any]
    with tqdm(total=total, initial=initial, desc=noun.capitalize(), unit=f" {noun}") as bar:
        yield bar.update
