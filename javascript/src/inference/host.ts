/** What runs a model: in this thread, or in a Worker behind the same interface. */

import type { Bundle } from "../bundle/bundle.js";
import { type Manifest, type TokenizerSpec, tokenizersOf } from "../bundle/manifest.js";
import type { Progress } from "../bundle/source.js";
import type { Engine } from "../engines/engine.js";
import { BundleError, InputError } from "../errors.js";
import { readTokenizerFile } from "../tokenizer/file.js";
import type { Input, Tokenizer } from "../tokenizer/tokenizer.js";
import { Pipeline } from "./pipeline.js";
import { type SparseVector, sparseRows } from "./sparse-rows.js";
import { verify, type VerificationResult } from "./verification.js";

/** What is known of an opened model. */
export interface ModelInfo {
  readonly name: string;
  readonly manifest: Manifest;
  readonly manifestSha256: string;
  /** The precision of the graphs that run, and all that the bundle has. */
  readonly precision: string;
  readonly precisions: readonly string[];
  readonly engine: string;
  readonly device: string;
  readonly threads: number;
  readonly maxLength: number | undefined;
}

/** The options of one call that reach the pipeline. */
export interface RunOptions {
  readonly prompt: string;
  readonly task: string | undefined;
  readonly batchSize: number | undefined;
}

export interface SparseRunOptions extends RunOptions {
  /** The maximum number of values of a vector. */
  readonly maxValues: number | undefined;
}

/** What a caller may do while a call runs. */
export interface RunControl {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface ModelHost {
  readonly info: ModelInfo;

  /** The graph's outputs for inputs in their order: float32 [n, width] in row order. */
  run(inputs: readonly Input[], options: RunOptions, control: RunControl): Promise<Float32Array>;

  /** What is not 0 of the outputs, of each its largest values. */
  runSparse(inputs: readonly Input[], options: SparseRunOptions, control: RunControl): Promise<SparseVector[]>;

  /** The tokens of some ids. */
  tokens(ids: readonly number[]): Promise<string[]>;

  verify(control: RunControl): Promise<VerificationResult>;

  close(): Promise<void>;
}

export type OpenEngine = (bundle: Bundle, route: string | undefined) => Promise<Engine>;

/** Load the tokenizers and graphs of a bundle in this thread. */
export async function openLocalHost(bundle: Bundle, openEngine: OpenEngine): Promise<ModelHost> {
  // While the weights are transferred.
  const tokenizers = await readTokenizers(bundle);
  await bundle.checked;
  const pipelines = new Map<string | undefined, Pipeline>();
  for (const [route, { specification, tokenizer }] of tokenizers) {
    const engine = await openEngine(bundle, route);
    pipelines.set(route, new Pipeline(tokenizer, specification, engine, bundle.manifest.width));
  }
  bundle.source.release();
  return new LocalHost(bundle, pipelines);
}

interface ReadTokenizer {
  readonly specification: TokenizerSpec;
  readonly tokenizer: Tokenizer;
}

/** The tokenizer of each route. */
async function readTokenizers(bundle: Bundle): Promise<ReadonlyMap<string | undefined, ReadTokenizer>> {
  const tokenizers = new Map<string | undefined, ReadTokenizer>();
  for (const [route, specification] of tokenizersOf(bundle.manifest)) {
    const problem = (why: string): BundleError =>
      new BundleError(bundle.name, [`${specification.file} cannot be loaded (${why}): export the model again`]);
    const tokenizer = readTokenizerFile(await bundle.source.read(specification.file), problem);
    if (tokenizer.maxLength !== specification.maxLength) {
      const [actual, stated] = [tokenizer.maxLength, specification.maxLength].map((one) => one ?? "no limit of");
      throw new BundleError(bundle.name, [`the tokenizer truncates to ${actual} tokens, the manifest says ${stated}`]);
    }
    tokenizers.set(route, { specification, tokenizer });
  }
  return tokenizers;
}

class LocalHost implements ModelHost {
  readonly info: ModelInfo;
  readonly #main: Pipeline;

  constructor(
    private readonly bundle: Bundle,
    private readonly pipelines: ReadonlyMap<string | undefined, Pipeline>,
  ) {
    const { manifest, manifestSha256, name } = bundle;
    const main = pipelines.get(manifest.routing?.default) ?? [...pipelines.values()][0];
    const lengths = [...pipelines.values()].map(({ tokenizer }) => tokenizer.maxLength);
    this.#main = main;
    this.info = {
      name,
      manifest,
      manifestSha256,
      precision: main.engine.graph.precision,
      precisions: bundle.precisions,
      engine: `${main.engine.name} ${main.engine.version}`,
      device: main.engine.device,
      threads: main.engine.threads,
      maxLength: lengths.includes(undefined) ? undefined : Math.max(...lengths.map(Number)),
    };
  }

  async run(inputs: readonly Input[], options: RunOptions, control: RunControl): Promise<Float32Array> {
    const { width } = this.bundle.manifest;
    const { distinct, positions } = deduplicate(inputs);
    const outputs = new Float32Array(distinct.length * width);
    for await (const batch of this.#batches(distinct, options, control)) {
      batch.positions.forEach((position, row) =>
        outputs.set(batch.values.subarray(row * width, (row + 1) * width), position * width),
      );
    }
    if (distinct.length === inputs.length) {
      return outputs;
    }
    const repeated = new Float32Array(inputs.length * width);
    positions.forEach((position, place) =>
      repeated.set(outputs.subarray(position * width, (position + 1) * width), place * width),
    );
    return repeated;
  }

  async runSparse(inputs: readonly Input[], options: SparseRunOptions, control: RunControl): Promise<SparseVector[]> {
    const { distinct, positions } = deduplicate(inputs);
    const vectors: SparseVector[] = [];
    for await (const batch of this.#batches(distinct, options, control)) {
      const rows = sparseRows(batch.values, this.bundle.manifest.width, options.maxValues);
      batch.positions.forEach((position, row) => (vectors[position] = rows[row]));
    }
    return positions.map((position) => vectors[position]);
  }

  async tokens(ids: readonly number[]): Promise<string[]> {
    return ids.map((id) => this.#main.tokenizer.token(id));
  }

  async verify(control: RunControl): Promise<VerificationResult> {
    return verify(this.bundle, this.pipelines, control);
  }

  async close(): Promise<void> {
    for (const { engine } of this.pipelines.values()) {
      await engine.close();
    }
    await this.bundle.source.close();
  }

  #batches(inputs: readonly Input[], options: RunOptions, control: RunControl): ReturnType<Pipeline["outputs"]> {
    let done = 0;
    const onTexts = (count: number): void => {
      done += count;
      control.onProgress?.({ step: "encode", done, total: inputs.length });
    };
    const { prompt, batchSize, task } = options;
    return this.#pipelineFor(task).outputs(inputs, { prompt, batchSize, signal: control.signal, onTexts });
  }

  /** The pipeline that a task takes. */
  #pipelineFor(task: string | undefined): Pipeline {
    const { routing } = this.bundle.manifest;
    if (routing === undefined) {
      if (task !== undefined) {
        throw new InputError(`task ${JSON.stringify(task)}: this model embeds every text in one way, so leave task out`);
      }
      return this.#main;
    }
    const route = task === undefined ? routing.default : routing.tasks.get(task);
    const pipeline = route === undefined ? undefined : this.pipelines.get(route);
    if (pipeline === undefined) {
      const known = [...routing.tasks.keys()].map((name) => JSON.stringify(name)).join(", ");
      const problem =
        task === undefined ? "no task was given, and this model has no default" : `task ${JSON.stringify(task)} is unknown`;
      throw new InputError(`${problem}; it has ${known}: name one, or use encodeQuery and encodeDocument`);
    }
    return pipeline;
  }
}

/** The distinct inputs in the order they first occur, and where each input is among them. */
function deduplicate(inputs: readonly Input[]): { distinct: readonly Input[]; positions: readonly number[] } {
  const places = new Map<string, number>();
  const distinct: Input[] = [];
  const positions = inputs.map((input) => {
    const key = typeof input === "string" ? input : JSON.stringify(input);
    let place = places.get(key);
    if (place === undefined) {
      place = distinct.push(input) - 1;
      places.set(key, place);
    }
    return place;
  });
  return { distinct, positions };
}
