/** CrossEncoder: score pairs of texts with a bundle. */

import { InputError } from "./errors.js";
import { checkCount, checkPairs, checkText, checkTexts, describe, type Pair } from "./inputs.js";
import { type CallOptions, Model, openTask } from "./model.js";
import type { OpenOptions } from "./platform.js";
import { type Activation, ACTIVATIONS } from "./tasks/task.js";

export interface PredictOptions extends CallOptions {
  /** "Identity" for logits, or "Sigmoid"; by default the model's own. */
  readonly activation?: Activation | undefined;
  /** Convert the scores of each pair to probabilities, if there is more than one label. */
  readonly softmax?: boolean | undefined;
}

export interface RankOptions extends Omit<PredictOptions, "softmax"> {
  /** The maximum number of documents to return; by default all. */
  readonly topK?: number | undefined;
}

/** A ranked document: its position among the documents, its score and its text. */
export interface RankedDocument {
  readonly index: number;
  readonly score: number;
  readonly text: string;
}

/** A reranker or classifier of pairs of texts: a bundle of the task "rerank", opened on one engine. */
export class CrossEncoder extends Model<"rerank"> {
  /** Open a bundle, as `Embedder.open` does. */
  static async open(bundle: string | URL, options: OpenOptions = {}): Promise<CrossEncoder> {
    return new CrossEncoder(await openTask(bundle, "rerank", options));
  }

  /** Number of scores for each pair: 1 for a reranker, the number of classes for a classifier. */
  get numLabels(): number {
    return this.section.numLabels;
  }

  /** The names of the labels, empty if the model does not name them. */
  get labelNames(): readonly string[] {
    return this.section.labelNames;
  }

  /** Score pairs of texts: float32 [n x `numLabels`], pair after pair. */
  async predict(pairs: readonly Pair[], options: PredictOptions = {}): Promise<Float32Array> {
    const { activation = this.section.activation, softmax = false } = options;
    if (!(ACTIVATIONS as readonly string[]).includes(activation)) {
      throw new InputError(
        `activation ${describe(activation)} is not one of ${ACTIVATIONS.join(", ")}: apply any other function yourself, to ` +
          'the scores of "Identity"',
      );
    }
    const inputs = checkPairs(pairs);
    const logits = await this.opened.run(inputs, this.checkCall(options), options);
    const scores = activation === "Sigmoid" ? logits.map(sigmoid) : logits;
    // One label alone would always have the probability 1.
    return softmax && this.numLabels > 1 ? softmaxRows(scores, this.numLabels) : scores;
  }

  /** Documents by their scores for a query, highest first; equal scores keep the documents' order. */
  async rank(query: string, documents: readonly string[], options: RankOptions = {}): Promise<RankedDocument[]> {
    if (this.numLabels !== 1) {
      throw new InputError(`rank needs a model with one label, and this one has ${this.numLabels}: use predict with pairs`);
    }
    const topK = checkCount(options.topK, "topK");
    checkText(query, "query");
    const texts = checkTexts(documents, "documents");
    const scores = await this.predict(texts.map((text) => [query, text] as const), options);
    return texts
      .map((text, index) => ({ index, score: scores[index], text }))
      .sort((one, other) => other.score - one.score)
      .slice(0, topK);
  }
}

function sigmoid(logit: number): number {
  // exp of what is not positive cannot overflow.
  const small = Math.exp(-Math.abs(logit));
  return (logit >= 0 ? 1 : small) / (1 + small);
}

function softmaxRows(scores: Float32Array, width: number): Float32Array {
  const result = new Float32Array(scores.length);
  for (let start = 0; start < scores.length; start += width) {
    const row = Array.from(scores.subarray(start, start + width));
    const largest = Math.max(...row);
    const powers = row.map((score) => Math.exp(score - largest));
    const sum = powers.reduce((total, power) => total + power, 0);
    result.set(powers.map((power) => power / sum), start);
  }
  return result;
}
