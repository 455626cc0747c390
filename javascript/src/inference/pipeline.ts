/** Texts through tokenizer, batches and engine, back in the order they came in. */

import { POOLING_MASK, type TokenizerSpec } from "../bundle/manifest.js";
import type { Engine } from "../engines/engine.js";
import { InputError, MonographError, firstLine } from "../errors.js";
import { TokenizerError } from "../tokenizer/configuration.js";
import type { Input, Tokenizer } from "../tokenizer/tokenizer.js";
import { padBatch, planBatches, splitIntoWindows, type Tokens } from "./batching.js";

// Values of a batch's output: 32 MB.
const MAX_OUTPUT_VALUES = 8_388_608;
// Larger batches fall out of the CPU's cache.
const TOKENS_PER_BATCH_AND_THREAD = 256;

/** What the caller of a pipeline chooses. */
export interface Call {
  readonly prompt: string;
  readonly batchSize?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of further texts that are done, after each batch. */
  readonly onTexts?: ((count: number) => void) | undefined;
}

/** Results of a batch: the positions of its texts, and float32 [positions, width] in row order. */
export interface BatchOutputs {
  readonly positions: readonly number[];
  readonly values: Float32Array;
}

export class Pipeline {
  constructor(
    readonly tokenizer: Tokenizer,
    readonly specification: TokenizerSpec,
    readonly engine: Engine,
    readonly width: number,
  ) {}

  get maxBatchSize(): number {
    const rows = Math.max(1, Math.floor(MAX_OUTPUT_VALUES / this.width));
    return Math.min(rows, this.engine.graph.maxBatchSize ?? rows);
  }

  /** The outputs of inputs, batch by batch; each input is computed. */
  async *outputs(inputs: readonly Input[], call: Call): AsyncGenerator<BatchOutputs> {
    let start = 0;
    for (const window of splitIntoWindows(inputs)) {
      const tokens = this.tokenize(window, call.prompt, start);
      const plan = planBatches(
        tokens.map(({ ids }) => ids.length),
        {
          tokensPerBatch: TOKENS_PER_BATCH_AND_THREAD * this.engine.threads,
          maxBatchSize: this.maxBatchSize,
          batchSize: call.batchSize,
        },
      );
      for await (const { positions, values } of this.runBatches(tokens, plan, call.signal)) {
        yield { positions: positions.map((position) => start + position), values };
        call.onTexts?.(positions.length);
      }
      start += window.length;
    }
  }

  /** The outputs of a plan: batches of positions among tokenized texts. */
  async *runBatches(
    tokens: readonly Tokens[],
    plan: Iterable<readonly number[]>,
    signal?: AbortSignal,
  ): AsyncGenerator<BatchOutputs> {
    for (const positions of plan) {
      signal?.throwIfAborted();
      const texts = positions.map((position) => tokens[position]);
      const batch = padBatch(texts, this.engine.graph.inputs.keys(), this.specification.padId);
      yield { positions, values: await this.engine.run(batch) };
    }
  }

  /** Tokenize texts or pairs behind a prompt; errors count positions from `start`. */
  tokenize(inputs: readonly Input[], prompt: string, start = 0): Tokens[] {
    const promptLength = prompt !== "" && this.engine.graph.inputs.has(POOLING_MASK) ? this.#promptLength(prompt) : 0;
    return inputs.map((input, place) => {
      const { ids, typeIds } = this.#encode(addPrompt(input, prompt));
      const noun = typeof input === "string" ? "text" : "pair";
      const unknown = ids.find((id) => id >= this.specification.vocabularySize);
      if (unknown !== undefined) {
        throw new InputError(
          `${noun} ${start + place} holds the token ${JSON.stringify(this.tokenizer.token(unknown))} (id ${unknown}), for ` +
            "which this model has no embedding: take it out of the text, or of the prompt before it",
        );
      }
      if (ids.length < this.specification.minLength) {
        throw new InputError(
          `${noun} ${start + place} has no tokens, and this model, in sentence-transformers as well, has no output for it: ` +
            "leave it out",
        );
      }
      return { ids, typeIds, promptLength };
    });
  }

  #encode(input: Input): ReturnType<Tokenizer["encode"]> {
    try {
      return this.tokenizer.encode(input);
    } catch (error) {
      if (!(error instanceof TokenizerError)) {
        throw error;
      }
      throw new MonographError(`the tokenizer cannot run (${firstLine(error)}): export the model again`, { cause: error });
    }
  }

  /** The tokens of a prompt by itself, without a special one at its end, as Sentence Transformers counts. */
  #promptLength(prompt: string): number {
    const { ids } = this.#encode(prompt);
    const last = ids.at(-1);
    return last !== undefined && this.specification.specialIds.includes(last) ? ids.length - 1 : ids.length;
  }
}

/** A text behind a prompt; of a pair the first text. */
function addPrompt(input: Input, prompt: string): Input {
  return typeof input === "string" ? prompt + input : [prompt + input[0], input[1]];
}
