/** SparseEncoder: embed texts as sparse vectors with a bundle. */

import { InputError } from "./errors.js";
import type { SparseVector } from "./inference/sparse-rows.js";
import { checkCount, checkText, checkTexts } from "./inputs.js";
import { DOCUMENT_PROMPTS, Model, openTask, QUERY_PROMPTS, type RoutedOptions } from "./model.js";
import type { OpenOptions } from "./platform.js";
import { dot, MIN_NORM } from "./similarity.js";

export interface SparseOptions extends RoutedOptions {
  /** Keep only this many of a vector's values, the largest; by default the model's choice. */
  readonly maxActiveDims?: number | undefined;
}

/** A token of a sparse vector, and its weight. */
export interface WeightedToken {
  readonly token: string;
  readonly weight: number;
}

/** A sparse encoder (SPLADE, or inference-free): a bundle of the task "sparse", opened on one engine. */
export class SparseEncoder extends Model<"sparse"> {
  /** Open a bundle, as `Embedder.open` does. */
  static async open(bundle: string | URL, options: OpenOptions = {}): Promise<SparseEncoder> {
    return new SparseEncoder(await openTask(bundle, "sparse", options));
  }

  /** Columns of a vector, one for each token of the vocabulary. */
  get dimension(): number {
    return this.section.dimension;
  }

  /** Embed one text or many: the columns and values of each vector that are not 0. */
  async encode(text: string, options?: SparseOptions): Promise<SparseVector>;
  async encode(texts: readonly string[], options?: SparseOptions): Promise<SparseVector[]>;
  async encode(
    texts: string | readonly string[],
    options: SparseOptions = {},
  ): Promise<SparseVector | SparseVector[]> {
    const maxValues = checkCount(options.maxActiveDims, "maxActiveDims") ?? this.section.maxActiveDims;
    const isSingle = typeof texts === "string";
    const inputs = isSingle ? [checkText(texts, "text 0")] : checkTexts(texts);
    const vectors = await this.opened.runSparse(inputs, { ...this.checkCall(options), maxValues }, options);
    return isSingle ? vectors[0] : vectors;
  }

  /** `encode` with the model's "query" prompt and route, if it has them and you give none. */
  async encodeQuery(text: string, options?: SparseOptions): Promise<SparseVector>;
  async encodeQuery(texts: readonly string[], options?: SparseOptions): Promise<SparseVector[]>;
  async encodeQuery(texts: string | readonly string[], options: SparseOptions = {}): Promise<SparseVector | SparseVector[]> {
    const routed = this.routed(options, "query", QUERY_PROMPTS);
    return typeof texts === "string" ? this.encode(texts, routed) : this.encode(texts, routed);
  }

  /** `encode` with the model's "document", "passage" or "corpus" prompt and route, if it has them and you give none. */
  async encodeDocument(text: string, options?: SparseOptions): Promise<SparseVector>;
  async encodeDocument(texts: readonly string[], options?: SparseOptions): Promise<SparseVector[]>;
  async encodeDocument(
    texts: string | readonly string[],
    options: SparseOptions = {},
  ): Promise<SparseVector | SparseVector[]> {
    const routed = this.routed(options, "document", DOCUMENT_PROMPTS);
    return typeof texts === "string" ? this.encode(texts, routed) : this.encode(texts, routed);
  }

  /** The model's similarity of each vector of `first` [n] to each of `second` [m]: n arrays of m values. */
  similarity(first: readonly SparseVector[], second: readonly SparseVector[]): Float32Array[] {
    const compare = COMPARISONS[this.section.similarity];
    if (compare === undefined) {
      throw new InputError(`sparse vectors have no similarity ${JSON.stringify(this.section.similarity)}`);
    }
    return first.map((one) => Float32Array.from(second, (other) => compare(one, other)));
  }

  /** The tokens of a vector with their weights, heaviest first, at most `topK`. */
  async decode(vector: SparseVector, topK?: number): Promise<WeightedToken[]> {
    const order = Array.from(vector.values.keys())
      .sort((one, other) => vector.values[other] - vector.values[one])
      .slice(0, checkCount(topK, "topK"));
    const tokens = await this.opened.tokens(order.map((place) => vector.indices[place]));
    return order.map((place, position) => ({ token: tokens[position], weight: vector.values[place] }));
  }
}

type Comparison = (one: SparseVector, other: SparseVector) => number;

const COMPARISONS: { readonly [name: string]: Comparison | undefined } = {
  dot: (one, other) => sumOf(one, other, (a, b) => a * b),
  cosine: (one, other) =>
    sumOf(one, other, (a, b) => a * b) / (Math.max(norm(one), MIN_NORM) * Math.max(norm(other), MIN_NORM)),
  euclidean: (one, other) => -Math.sqrt(sumOf(one, other, (a, b) => (a - b) ** 2)),
  manhattan: (one, other) => -sumOf(one, other, (a, b) => Math.abs(a - b)),
};

function norm(vector: SparseVector): number {
  return Math.sqrt(dot(vector.values, vector.values));
}

/** The sum of a function of two vectors' values over the columns that either has. */
function sumOf(one: SparseVector, other: SparseVector, combine: (a: number, b: number) => number): number {
  let [sum, left, right] = [0, 0, 0];
  while (left < one.indices.length || right < other.indices.length) {
    const columns = [one.indices[left] ?? Infinity, other.indices[right] ?? Infinity];
    const column = Math.min(...columns);
    sum += combine(columns[0] === column ? one.values[left++] : 0, columns[1] === column ? other.values[right++] : 0);
  }
  return sum;
}
