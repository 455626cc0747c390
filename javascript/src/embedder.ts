/** Embedder: embed texts with a bundle. */

import { InputError } from "./errors.js";
import { collectWindows } from "./inference/batching.js";
import { checkStream, checkText, checkTexts } from "./inputs.js";
import { DOCUMENT_PROMPTS, Model, openTask, QUERY_PROMPTS, type RoutedOptions } from "./model.js";
import type { OpenOptions } from "./platform.js";
import { isSimilarity, type Similarity, similarity, similarityPairwise, type Vector } from "./similarity.js";
import { dimensionOf, postProcess, type Precision, type VectorOptions, type VectorTypes } from "./tasks/vectors.js";

export interface EncodeOptions<P extends Precision = "float32"> extends RoutedOptions, VectorOptions<P> {}

/** A Sentence Transformer: a bundle of the task "embedding", opened on one engine. */
export class Embedder extends Model<"embedding"> {
  /**
   * Open a bundle: a folder or an http(s) address, in a browser an address relative to the page.
   *
   * Throws `BundleError` (with every problem), `DeviceError` or `InputError`.
   */
  static async open(bundle: string | URL, options: OpenOptions = {}): Promise<Embedder> {
    return new Embedder(await openTask(bundle, "embedding", options));
  }

  /** Dimensions of the vectors: the model's, or its default number to truncate to. */
  get dimension(): number {
    return dimensionOf(this.section);
  }

  /** The similarity function that the model was trained with. */
  get similarityName(): Similarity {
    const { similarity: name } = this.section;
    // The reader of manifests refuses any other.
    return isSimilarity(name) ? name : "cosine";
  }

  /** Embed one text or many: a vector for a text, an array of vectors for an array of texts. */
  async encode<P extends Precision = "float32">(text: string, options?: EncodeOptions<P>): Promise<VectorTypes[P]>;
  async encode<P extends Precision = "float32">(
    texts: readonly string[],
    options?: EncodeOptions<P>,
  ): Promise<VectorTypes[P][]>;
  async encode<P extends Precision = "float32">(
    texts: string | readonly string[],
    options: EncodeOptions<P> = {},
  ): Promise<VectorTypes[P] | VectorTypes[P][]> {
    const finish = postProcess(this.section, options);
    const call = this.checkCall(options);
    const isSingle = typeof texts === "string";
    const inputs = isSingle ? [checkText(texts, "text 0")] : checkTexts(texts);
    const outputs = await this.opened.run(inputs, call, options);
    const { width } = this.manifest;
    const vectors = inputs.map((_, row) => finish(outputs.subarray(row * width, (row + 1) * width)));
    return isSingle ? vectors[0] : vectors;
  }

  /**
   * Embed the texts of any iterable, and yield arrays of vectors in their order, in constant memory.
   *
   * Options are checked at the call, texts as they are read.
   */
  encodeIter<P extends Precision = "float32">(
    texts: Iterable<string> | AsyncIterable<string>,
    options: Omit<EncodeOptions<P>, "onProgress"> = {},
  ): AsyncGenerator<VectorTypes[P][]> {
    postProcess(this.section, options);
    this.checkCall(options);
    return this.#encodeWindows(collectWindows(checkStream(texts)), options);
  }

  /** `encode` with the model's "query" prompt and route, if it has them and you give none. */
  async encodeQuery<P extends Precision = "float32">(text: string, options?: EncodeOptions<P>): Promise<VectorTypes[P]>;
  async encodeQuery<P extends Precision = "float32">(
    texts: readonly string[],
    options?: EncodeOptions<P>,
  ): Promise<VectorTypes[P][]>;
  async encodeQuery<P extends Precision = "float32">(
    texts: string | readonly string[],
    options: EncodeOptions<P> = {},
  ): Promise<VectorTypes[P] | VectorTypes[P][]> {
    const routed = this.routed(options, "query", QUERY_PROMPTS);
    return typeof texts === "string" ? this.encode(texts, routed) : this.encode(texts, routed);
  }

  /** `encode` with the model's "document", "passage" or "corpus" prompt and route, if it has them and you give none. */
  async encodeDocument<P extends Precision = "float32">(text: string, options?: EncodeOptions<P>): Promise<VectorTypes[P]>;
  async encodeDocument<P extends Precision = "float32">(
    texts: readonly string[],
    options?: EncodeOptions<P>,
  ): Promise<VectorTypes[P][]>;
  async encodeDocument<P extends Precision = "float32">(
    texts: string | readonly string[],
    options: EncodeOptions<P> = {},
  ): Promise<VectorTypes[P] | VectorTypes[P][]> {
    const routed = this.routed(options, "document", DOCUMENT_PROMPTS);
    return typeof texts === "string" ? this.encode(texts, routed) : this.encode(texts, routed);
  }

  async *#encodeWindows<P extends Precision>(
    windows: AsyncIterable<readonly string[]>,
    options: EncodeOptions<P>,
  ): AsyncGenerator<VectorTypes[P][]> {
    for await (const window of windows) {
      yield this.encode(window, options);
    }
  }

  /** The model's similarity of each vector of `first` [n] to each of `second` [m]: n arrays of m values. */
  similarity(first: Vector | readonly Vector[], second: Vector | readonly Vector[]): Float32Array[] {
    return similarity(this.similarityName, toVectors(first), toVectors(second));
  }

  /** The model's similarity of vector i of `first` to vector i of `second`, [n]. */
  similarityPairwise(first: readonly Vector[], second: readonly Vector[]): Float32Array {
    return similarityPairwise(this.similarityName, toVectors(first), toVectors(second));
  }
}

function toVectors(value: Vector | readonly Vector[]): readonly Vector[] {
  const isVector = ArrayBuffer.isView(value) || (Array.isArray(value) && typeof value[0] === "number");
  if (!isVector && !Array.isArray(value)) {
    throw new InputError("vectors must be a vector or an array of vectors");
  }
  return isVector ? [value as Vector] : (value as readonly Vector[]);
}
