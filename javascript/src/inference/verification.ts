/** Run a bundle's own acceptance test: its probes, alone, in ragged batches and as a call does. */

import type { Bundle } from "../bundle/bundle.js";
import { POOLING_MASK } from "../bundle/manifest.js";
import type { Probes } from "../bundle/probes.js";
import { BundleError, MonographError } from "../errors.js";
import { dot } from "../similarity.js";
import type { Task } from "../tasks/task.js";
import { batchCost, type Tokens } from "./batching.js";
import type { RunControl } from "./host.js";
import type { BatchOutputs, Pipeline } from "./pipeline.js";

// At float32: max abs difference <= this x max(1, largest |reference|).
const FLOAT32_TOLERANCE = 1e-5;
// The cosine that is required of graphs that round by themselves, by their precision.
const MIN_COSINES: ReadonlyMap<string, number> = new Map([["fp16", 0.999], ["int8", 0.99]]);
// Where a graph or a provider rounds: what the score of a pair may differ by, relative to the largest.
const SCORE_TOLERANCE = 5e-2;
const SCORE_TOLERANCES: ReadonlyMap<string, number> = new Map([["int8", 0.5]]);
// How long a vector may be, relative to the longest of the reference, where the reference is zero and an engine rounds.
const MAX_NORM_FOR_ZERO = 1e-2;
const RAGGED_BATCH_ROWS = 16;
const RAGGED_BATCH_COST = 16_384;

/** How far the outputs are from the reference for one way of batching the probes. */
export interface VerificationCase {
  readonly name: string;
  readonly maxAbsDifference: number;
  /** null for scores, which have no direction. */
  readonly worstCosine: number | null;
  /** The length of the probe that differs most. */
  readonly worstTokens: number;
}

/** What is allowed; one of the two is null. */
export interface Tolerance {
  readonly maxAbsDifference: number | null;
  readonly minCosine: number | null;
}

export interface VerificationResult {
  readonly passed: boolean;
  /** The worst of all cases. */
  readonly maxAbsDifference: number;
  readonly worstCosine: number | null;
  /** The number of texts or pairs compared. */
  readonly probes: number;
  /** Why it failed, "" if it passed. */
  readonly reason: string;
  readonly tolerance: Tolerance;
  readonly cases: readonly VerificationCase[];
  /** The package that ran the graph, its version and its execution provider. */
  readonly engine: string;
}

type Pipelines = ReadonlyMap<string | undefined, Pipeline>;

/** Compute every set of probes in every way that texts may be batched, and compare with the reference. */
export async function verify(
  bundle: Bundle,
  pipelines: Pipelines,
  control: RunControl,
): Promise<VerificationResult> {
  const sets = await bundle.readProbes();
  checkComplete(bundle, pipelines, sets);
  const comparisons = sets.map((probes) => {
    const pipeline = pipelines.get(probes.route);
    if (pipeline === undefined) {
      throw new BundleError(bundle.name, [`probes of the route ${JSON.stringify(probes.route)}, which no graph has`]);
    }
    return new Comparison(bundle.manifest.task, pipeline, probes);
  });
  const total = comparisons.reduce((sum, { total: count }) => sum + count, 0);
  let done = 0;
  for (const comparison of comparisons) {
    await comparison.run(control.signal, (count) => {
      done += count;
      control.onProgress?.({ step: "verify", done, total });
    });
  }
  const cases = comparisons.flatMap((comparison) => comparison.cases);
  const cosines = cases.flatMap(({ worstCosine }) => (worstCosine === null ? [] : [worstCosine]));
  const reason = comparisons.map((comparison) => comparison.failure()).find((one) => one !== "") ?? "";
  const [{ pipeline, tolerance }] = comparisons;
  return {
    passed: reason === "",
    maxAbsDifference: Math.max(...cases.map(({ maxAbsDifference }) => maxAbsDifference)),
    worstCosine: cosines.length > 0 ? Math.min(...cosines) : null,
    probes: sets.reduce((sum, { texts }) => sum + texts.length, 0),
    reason,
    tolerance,
    cases,
    engine: `${pipeline.engine.name} ${pipeline.engine.version}, ${pipeline.engine.device}`,
  };
}

/** Require a set of each route, and one with a prompt where prompts are left out of the pooling. */
function checkComplete(bundle: Bundle, pipelines: Pipelines, sets: readonly Probes[]): void {
  const has = (route: string | undefined, isPrompted: boolean): boolean =>
    sets.some((probes) => probes.route === route && (probes.prompt !== "") === isPrompted);
  const missing: string[] = [];
  for (const [route, pipeline] of pipelines) {
    const ofRoute = route === undefined ? "" : ` of the route ${JSON.stringify(route)}`;
    if (!has(route, false)) {
      missing.push(`no probes${ofRoute}`);
    }
    if (pipeline.engine.graph.inputs.has(POOLING_MASK) && !has(route, true)) {
      missing.push(`no probes with a prompt${ofRoute}`);
    }
  }
  if (missing.length > 0) {
    throw new BundleError(bundle.name, missing);
  }
}

/** One set of probes through its pipeline, and how far the outputs are from the reference, case by case. */
class Comparison {
  readonly cases: VerificationCase[] = [];
  readonly tolerance: Tolerance;
  readonly #tokens: readonly Tokens[];
  readonly #plans: ReadonlyMap<string, readonly (readonly number[])[]>;
  #refusal = "";

  constructor(
    private readonly task: Task,
    readonly pipeline: Pipeline,
    private readonly probes: Probes,
  ) {
    this.#tokens = pipeline.tokenize(probes.texts, probes.prompt);
    this.tolerance = toleranceOf(task, pipeline.engine.graph.precision, probes.vectors);
    this.#plans = this.#makePlans();
  }

  /** How many texts `run` computes, each as often as it does. */
  get total(): number {
    const planned = [...this.#plans.values()].flat().reduce((sum, positions) => sum + positions.length, 0);
    return planned + this.probes.texts.length;
  }

  async run(signal: AbortSignal | undefined, onTexts: (count: number) => void): Promise<void> {
    for (const [name, plan] of this.#plans) {
      await this.#compare(name, this.pipeline.runBatches(this.#tokens, plan, signal), onTexts, signal);
    }
    const call = { prompt: this.probes.prompt, signal };
    await this.#compare("batched by length", this.pipeline.outputs(this.probes.texts, call), onTexts, signal);
  }

  /** The first thing that is wrong, "" if all is right. */
  failure(): string {
    const { tokenCounts } = this.probes;
    const wrong = this.#tokens.findIndex(({ ids }, position) => ids.length !== tokenCounts[position]);
    if (wrong >= 0) {
      return `probe ${wrong} has ${this.#tokens[wrong].ids.length} tokens instead of ${tokenCounts[wrong]}`;
    }
    return this.#refusal || (this.cases.map((one) => violation(this.tolerance, one)).find((one) => one !== "") ?? "");
  }

  #makePlans(): Map<string, readonly (readonly number[])[]> {
    const positions = this.#tokens.map((_, position) => position);
    const plans = new Map([["alone, unpadded", positions.map((position) => [position])]]);
    const rows = Math.min(RAGGED_BATCH_ROWS, this.pipeline.maxBatchSize);
    if (rows > 1) {
      const shuffled = shuffle(positions);
      // A fault at one length only shows in a batch of that length, so each probe is the longest of one once.
      plans.set("beside a shorter text", this.#pairWithShorter(shuffled));
      plans.set(`ragged batches of ${rows}`, this.#cutRagged(shuffled, rows));
    }
    return plans;
  }

  #length(position: number): number {
    return this.#tokens[position].ids.length;
  }

  #pairWithShorter(order: readonly number[]): number[][] {
    return order.map((probe, place) => {
      const others = [...order.slice(place + 1), ...order.slice(0, place)];
      const shorter = others.find((other) => this.#length(other) <= this.#length(probe));
      return shorter === undefined ? [probe] : [shorter, probe];
    });
  }

  #cutRagged(order: readonly number[], rows: number): number[][] {
    const plan: number[][] = [];
    for (let start = 0; start < order.length; ) {
      let batch = order.slice(start, start + rows);
      const longest = (): number => Math.max(...batch.map((position) => this.#length(position)));
      while (batch.length > 2 && batchCost(batch.length, longest()) > RAGGED_BATCH_COST) {
        batch = batch.slice(0, -1);
      }
      plan.push(batch);
      start += batch.length;
    }
    return plan;
  }

  async #compare(
    name: string,
    parts: AsyncIterable<BatchOutputs>,
    onTexts: (count: number) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { vectors, width, route, prompt } = this.probes;
    const outputs = new Float32Array(vectors.length).fill(NaN);
    try {
      for await (const { positions, values } of parts) {
        positions.forEach((position, row) =>
          outputs.set(values.subarray(row * width, (row + 1) * width), position * width),
        );
        onTexts(positions.length);
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof MonographError)) {
        throw error;
      }
      this.#refusal ||= `${name}: ${error.message}`;
    }
    const routed = route === undefined ? name : `${route}: ${name}`;
    this.cases.push(this.#measure(prompt === "" ? routed : `${routed}, prompted`, outputs));
  }

  #measure(name: string, outputs: Float32Array): VerificationCase {
    const { vectors, width, tokenCounts } = this.probes;
    let maxAbsDifference = 0;
    let worst = 0;
    for (let place = 0; place < outputs.length; place++) {
      const difference = Math.abs(outputs[place] - vectors[place]);
      // NaN compares as neither larger nor smaller, and must fail.
      if (!(difference <= maxAbsDifference)) {
        maxAbsDifference = Number.isNaN(difference) ? Infinity : difference;
        worst = Math.floor(place / width);
      }
    }
    const worstCosine = this.task === "rerank" ? null : leastCosine(outputs, vectors, width);
    return { name, maxAbsDifference, worstCosine, worstTokens: tokenCounts[worst] };
  }
}

function toleranceOf(task: Task, precision: string, reference: Float32Array): Tolerance {
  const largest = reference.reduce((maximum, value) => Math.max(maximum, Math.abs(value)), 1);
  const minCosine = MIN_COSINES.get(precision);
  if (minCosine === undefined) {
    return { maxAbsDifference: FLOAT32_TOLERANCE * largest, minCosine: null };
  }
  return task === "rerank"
    ? { maxAbsDifference: (SCORE_TOLERANCES.get(precision) ?? SCORE_TOLERANCE) * largest, minCosine: null }
    : { maxAbsDifference: null, minCosine };
}

/** How a case exceeds the tolerance, "" if it does not. */
function violation({ minCosine, maxAbsDifference }: Tolerance, measured: VerificationCase): string {
  const where = `${measured.name}, ${measured.worstTokens} tokens`;
  if (minCosine !== null) {
    const cosine = measured.worstCosine ?? -1;
    return cosine >= minCosine ? "" : `cosine ${cosine.toFixed(6)} is below ${minCosine}, ${where}`;
  }
  const allowed = maxAbsDifference ?? 0;
  return measured.maxAbsDifference <= allowed
    ? ""
    : `max abs difference ${measured.maxAbsDifference.toExponential(2)} exceeds ${allowed.toExponential(2)}, ${where}`;
}

/** The least cosine of rows. Zeros have no direction to be wrong, and a vector that is tiny beside the others is as near. */
function leastCosine(outputs: Float32Array, reference: Float32Array, width: number): number {
  const count = reference.length / width;
  const rowsOf = (values: Float32Array): Float32Array[] =>
    Array.from({ length: count }, (_, row) => values.subarray(row * width, (row + 1) * width));
  const expected = rowsOf(reference);
  const norms = expected.map((row) => Math.sqrt(dot(row, row)));
  const longest = Math.max(0, ...norms);
  let least = 1;
  for (const [row, values] of rowsOf(outputs).entries()) {
    const norm = Math.sqrt(dot(values, values));
    if (norms[row] === 0 && norm <= MAX_NORM_FOR_ZERO * longest) {
      continue;
    }
    const cosine = dot(values, expected[row]) / Math.max(norm * norms[row], 1e-30);
    least = Math.min(least, Number.isNaN(cosine) ? -1 : cosine);
  }
  return least;
}

/** The same order for the same number of values, at every run. */
function shuffle(values: readonly number[]): number[] {
  const shuffled = [...values];
  let state = 1;
  for (let place = shuffled.length - 1; place > 0; place--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const other = state % (place + 1);
    [shuffled[place], shuffled[other]] = [shuffled[other], shuffled[place]];
  }
  return shuffled;
}
