/** Token ids to padded batches of bounded cost: which texts share a batch, and how long it is padded. */

import { POOLING_MASK } from "../bundle/manifest.js";
import type { Batch } from "../engines/engine.js";
import type { Encoding, Input } from "../tokenizer/tokenizer.js";

/** Texts are tokenized and sorted by length so many at a time. */
const WINDOW_TEXTS = 2048;
const WINDOW_CHARACTERS = 500_000;
// At this length attention doubles the cost of a token.
const ATTENTION_EQUALS_LINEAR_AT_TOKENS = 512;
// How much more than the fastest batch one of a caller's own size may cost.
const MAX_COST_RATIO = 8;

/** Tokens of a text or pair; the first `promptLength` are those of its prompt, if the model does not pool them. */
export interface Tokens extends Encoding {
  readonly promptLength: number;
}

/** Cut texts into windows of bounded number and size; one text may alone exceed the size. */
export function* splitIntoWindows(inputs: readonly Input[]): Generator<readonly Input[]> {
  let start = 0;
  let size = 0;
  for (let place = 0; place < inputs.length; place++) {
    const input = inputs[place];
    const length = typeof input === "string" ? input.length : input[0].length + input[1].length;
    if (place > start && (size + length > WINDOW_CHARACTERS || place - start >= WINDOW_TEXTS)) {
      yield inputs.slice(start, place);
      start = place;
      size = 0;
    }
    size += length;
  }
  if (start < inputs.length) {
    yield inputs.slice(start);
  }
}

/** Texts of any source in windows as those of `splitIntoWindows`, each as soon as it is full. */
export async function* collectWindows(texts: Iterable<string> | AsyncIterable<string>): AsyncGenerator<readonly string[]> {
  let window: string[] = [];
  let size = 0;
  for await (const text of texts) {
    if (window.length > 0 && (size + text.length > WINDOW_CHARACTERS || window.length >= WINDOW_TEXTS)) {
      yield window;
      window = [];
      size = 0;
    }
    window.push(text);
    size += text.length;
  }
  if (window.length > 0) {
    yield window;
  }
}

/** What a batch costs an engine, in tokens: more than its tokens where attention is long. */
export function batchCost(rows: number, longest: number): number {
  return rows * longest * (1 + longest / ATTENTION_EQUALS_LINEAR_AT_TOKENS);
}

export interface BatchLimits {
  /** What the fastest batch costs. */
  readonly tokensPerBatch: number;
  readonly maxBatchSize: number;
  /** The caller's number of texts in a batch, if any. */
  readonly batchSize: number | undefined;
}

/** The positions of the texts of each batch, longest texts first. */
export function* planBatches(lengths: readonly number[], limits: BatchLimits): Generator<readonly number[]> {
  const order = lengths.map((_, position) => position).sort((one, other) => lengths[other] - lengths[one] || one - other);
  for (let start = 0; start < order.length; ) {
    const longest = Math.max(1, lengths[order[start]]);
    const budget = limits.tokensPerBatch * (limits.batchSize === undefined ? 1 : MAX_COST_RATIO);
    const affordable = Math.max(1, Math.floor(budget / batchCost(1, longest)));
    const rows = Math.min(affordable, limits.batchSize ?? affordable, limits.maxBatchSize);
    yield order.slice(start, start + rows);
    start += rows;
  }
}

/** Texts as one batch with some inputs, padded on the right. */
export function padBatch(texts: readonly Tokens[], names: Iterable<string>, padId: number): Batch {
  const rows = texts.length;
  // A batch of texts without any token is still one column wide: engines refuse an axis of length 0.
  const columns = texts.reduce((longest, { ids }) => Math.max(longest, ids.length), 1);
  const inputs = new Map<string, BigInt64Array>();
  for (const name of names) {
    const values = new BigInt64Array(rows * columns);
    texts.forEach((text, row) => {
      const start = row * columns;
      const length = text.ids.length;
      if (name === "input_ids") {
        text.ids.forEach((id, place) => (values[start + place] = BigInt(id)));
        values.fill(BigInt(padId), start + length, start + columns);
      } else if (name === "token_type_ids") {
        text.typeIds.forEach((id, place) => (values[start + place] = BigInt(id)));
      } else {
        values.fill(1n, start + (name === POOLING_MASK ? Math.min(text.promptLength, length) : 0), start + length);
      }
    });
    inputs.set(name, values);
  }
  return { rows, columns, inputs };
}
