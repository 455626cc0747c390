/** The base class of the models of all tasks. */

import type { Manifest } from "./bundle/manifest.js";
import type { Progress } from "./bundle/source.js";
import { BundleError, InputError, MonographError } from "./errors.js";
import type { ModelHost, RunControl, RunOptions } from "./inference/host.js";
import type { VerificationResult } from "./inference/verification.js";
import { checkCount, checkText, checkThreads, describe, resolvePrompt } from "./inputs.js";
import { openHost, type OpenOptions } from "./platform.js";
import { QUALITY_LEVELS, type Sections, type Task, TASKS } from "./tasks/task.js";

/** The options that calls of all models have. */
export interface CallOptions {
  /** Name of a prompt of the model, which is prepended to each text; by default the model's default prompt. */
  readonly promptName?: string | undefined;
  /** Your own prompt; "" for none. It takes precedence over `promptName`. */
  readonly prompt?: string | undefined;
  /** The maximum number of texts in a batch; by default the fastest choice. */
  readonly batchSize?: number | undefined;
  /** Called after each batch, with the number of texts that are done. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Stops the call between two batches. */
  readonly signal?: AbortSignal | undefined;
}

/** The options of models that may have routes. */
export interface RoutedOptions extends CallOptions {
  /** The task that selects the route of a model with a Router, for example "query"; by default its default. */
  readonly task?: string | undefined;
}

export const QUERY_PROMPTS = ["query"];
export const DOCUMENT_PROMPTS = ["document", "passage", "corpus"];

/** Check the arguments of an opening, and open the bundle on this platform. */
export async function openChecked(bundle: string | URL, options: OpenOptions): Promise<ModelHost> {
  if (!(bundle instanceof URL)) {
    checkText(bundle, "the bundle");
  }
  checkThreads(options.threads);
  const { check = "fast", executionProviders, quality, graphPrecision } = options;
  if (check !== "fast" && check !== "full") {
    throw new InputError(`check must be "fast" or "full", got ${describe(check)}`);
  }
  if (quality !== undefined && !QUALITY_LEVELS.includes(quality)) {
    const levels = QUALITY_LEVELS.map((level) => JSON.stringify(level)).join(", ");
    throw new InputError(`quality must be one of ${levels}, got ${describe(quality)}`);
  }
  if (quality !== undefined && graphPrecision !== undefined) {
    throw new InputError("quality and graphPrecision both choose a graph: leave one of them out");
  }
  if (executionProviders !== undefined && (!Array.isArray(executionProviders) || executionProviders.length === 0)) {
    throw new InputError(`executionProviders must be an array of at least one, got ${describe(executionProviders)}`);
  }
  return openHost(bundle, options);
}

/** Open a bundle of one task; throws `BundleError` if it is of another. */
export async function openTask(bundle: string | URL, task: Task, options: OpenOptions): Promise<ModelHost> {
  const host = await openChecked(bundle, options);
  const actual = host.info.manifest.task;
  if (actual !== task) {
    await host.close();
    const classes: { readonly [T in Task]: string } = { embedding: "Embedder", rerank: "CrossEncoder", sparse: "SparseEncoder" };
    throw new BundleError(host.info.name, [
      `it is ${TASKS[actual].title}, not ${TASKS[task].title}: open it with ${classes[actual]}`,
    ]);
  }
  return host;
}

/** A bundle opened on one engine. */
export abstract class Model<T extends Task> {
  #isClosed = false;

  /** Use `open` instead. */
  constructor(private readonly host: ModelHost) {}

  /** The contents of the bundle's manifest.json. */
  get manifest(): Manifest {
    return this.host.info.manifest;
  }

  /** SHA-256 of manifest.json, which has those of all other files: it identifies the bundle. */
  get manifestSha256(): string {
    return this.host.info.manifestSha256;
  }

  /** Maximum number of tokens of a text or pair, special tokens included; undefined for no limit. */
  get maxLength(): number | undefined {
    return this.host.info.maxLength;
  }

  /** The precision of the graph that runs. */
  get graphPrecision(): string {
    return this.host.info.precision;
  }

  /** The precisions of the bundle's graphs, the default first. */
  get graphPrecisions(): readonly string[] {
    return this.host.info.precisions;
  }

  /** The package that runs the graph, and its version. */
  get engine(): string {
    return this.host.info.engine;
  }

  /** The execution provider that runs the graph. */
  get device(): string {
    return this.host.info.device;
  }

  /** Threads of the engine. */
  get threads(): number {
    return this.host.info.threads;
  }

  /** Run the bundle's own acceptance test: its probes, each alone and in batches, compared with the reference. */
  async verify(options: RunControl = {}): Promise<VerificationResult> {
    return this.opened.verify(options);
  }

  /** Free the engine; further calls do nothing. */
  async close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true;
      await this.host.close();
    }
  }

  protected get opened(): ModelHost {
    if (this.#isClosed) {
      throw new MonographError("the model was closed: open it again to go on");
    }
    return this.host;
  }

  protected get section(): Sections[T] {
    // `open` refuses bundles of other tasks.
    return this.manifest.section as Sections[T];
  }

  /** The checked options of a call. */
  protected checkCall(options: RoutedOptions): RunOptions {
    const { prompts, defaultPromptName } = this.manifest;
    return {
      prompt: resolvePrompt(prompts, defaultPromptName, options.promptName, options.prompt),
      task: options.task === undefined ? undefined : checkText(options.task, "task"),
      batchSize: checkCount(options.batchSize, "batchSize"),
    };
  }

  /** The options of a call for queries or documents: the prompt and the route that the model has for them. */
  protected routed<O extends RoutedOptions>(options: O, task: string, promptNames: readonly string[]): O {
    const { prompts, routing } = this.manifest;
    const isGiven = options.prompt !== undefined || options.promptName !== undefined;
    const promptName = isGiven ? options.promptName : promptNames.find((name) => prompts.has(name));
    return { ...options, promptName, task: routing === undefined ? options.task : task };
  }
}
