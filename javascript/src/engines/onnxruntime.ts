/** ONNX Runtime in either of its packages, onnxruntime-node and onnxruntime-web. */

import type { Env, InferenceSession, Tensor, TensorConstructor } from "onnxruntime-web";

import type { Bundle } from "../bundle/bundle.js";
import { type Graph, precisionsOf, type TensorSpec, weightsFileOf } from "../bundle/manifest.js";
import type { GraphReference } from "../bundle/source.js";
import { BundleError, DeviceError, firstLine, InputError, MonographError } from "../errors.js";
import { levelOf, QUALITY_LEVELS, type QualityLevel } from "../tasks/task.js";
import type { Batch, Engine } from "./engine.js";

/** What both packages export. */
export interface OnnxRuntime {
  readonly env: Env;
  readonly InferenceSession: typeof InferenceSession;
  readonly Tensor: TensorConstructor;
}

export type ExecutionProvider = InferenceSession.ExecutionProviderConfig;

export interface EngineOptions {
  readonly threads: number;
  readonly executionProviders: readonly ExecutionProvider[];
}

/** An installed package of ONNX Runtime. */
export interface RuntimePackage {
  readonly name: string;
  readonly version: string;
  readonly runtime: OnnxRuntime;
}

// These fused operators are slower than those they replace.
const SLOWER_FUSIONS = "SkipLayerNormFusion;BiasGeluFusion";
// It would copy the weights of the layers.
const COPYING = "ConstantFolding";
const FP16 = "fp16";
const INT8 = "int8";
const INT8_WEIGHTS = "int8-weights";
// Of each kind of device the precisions that it runs; CPUs widen float16 first.
const SLOWEST_FIRST: { readonly [kind: string]: readonly string[] } = {
  cpu: ["fp16", "fp32", INT8_WEIGHTS, "int8"],
  cuda: ["fp32", "fp16"],
};
// Providers that run the graphs which the manifest has for another device than "cpu".
const DEVICES: ReadonlyMap<string, string> = new Map([["cuda", "cuda"]]);
const WEBGPU = "webgpu";

/** What the options of a session depend on. */
type GraphKind = Pick<Graph, "precision"> & Partial<Pick<Graph, "maxBatchSize">>;

/** Which of a bundle's precisions to run: one by its name, or the fastest of a quality level. */
export interface GraphChoice {
  readonly graphPrecision?: string | undefined;
  readonly quality?: QualityLevel | undefined;
}

/**
 * The bundle with the graphs of one precision: the chosen one, or that of the first graph for the device.
 *
 * Throws `InputError` for a choice that the bundle does not have, `DeviceError` if no precision reaches the level.
 */
export function chooseGraphs(bundle: Bundle, providers: readonly ExecutionProvider[], choice: GraphChoice): Bundle {
  const { graphPrecision, quality } = choice;
  const known = bundle.precisions;
  if (graphPrecision !== undefined && !known.includes(graphPrecision)) {
    throw new InputError(`graphPrecision ${JSON.stringify(graphPrecision)} is not one of this bundle's: ${known.join(", ")}`);
  }
  const kind = deviceKind(providers);
  const possible = precisionsOf({ graphs: bundle.manifest.graphs.filter((graph) => suits(graph, providers)) });
  const chosen = quality === undefined ? possible[0] : fastestOf(bundle, possible, quality, kind);
  return bundle.restrictedTo(graphPrecision ?? chosen ?? known[0]);
}

/** The fastest of some precisions that reach a level; undefined if there are none at all. */
function fastestOf(bundle: Bundle, possible: readonly string[], quality: QualityLevel, kind: string): string | undefined {
  const levels = possible.map((precision) => {
    const { manifest } = bundle.restrictedTo(precision);
    return [precision, levelOf(manifest.task, precision, manifest.loss)] as const;
  });
  const speed = ([precision]: (typeof levels)[number]): number => SLOWEST_FIRST[kind].indexOf(precision);
  const sufficient = levels.filter(([, level]) => QUALITY_LEVELS.indexOf(level) <= QUALITY_LEVELS.indexOf(quality));
  if (levels.length > 0 && sufficient.length === 0) {
    const has = levels.map(([precision, level]) => `${precision} of quality ${JSON.stringify(level)}`).join(" and ");
    throw new DeviceError(
      `bundle ${bundle.name} has no graph of quality ${JSON.stringify(quality)} for ${JSON.stringify(kind)}, only ${has}: ` +
        `choose another quality, or export it with --precision ${[...bundle.precisions, "fp32"].join(",")}`,
    );
  }
  return sufficient.sort((one, other) => speed(other) - speed(one))[0]?.[0];
}

/** The kind of device, as the manifest names it, that a provider runs on. */
function deviceKind(providers: readonly ExecutionProvider[]): string {
  return DEVICES.get(providerName(providers[0] ?? "cpu")) ?? "cpu";
}

/**
 * Whether a graph is for what a provider runs on.
 *
 * WebGPU has no kernel of QuantizeLinear: layers of int8 would run on the CPU, with copies before and behind each.
 */
function suits(graph: Graph, providers: readonly ExecutionProvider[]): boolean {
  return graph.devices.includes(deviceKind(providers)) && !(isWebGpu(providers) && graph.precision === INT8);
}

function isWebGpu(providers: readonly ExecutionProvider[]): boolean {
  return providers.some((provider) => providerName(provider) === WEBGPU);
}

/** A graph, and what a session of it is created from and with. */
export interface PreparedGraph {
  readonly graph: Graph;
  readonly reference: GraphReference;
  readonly sessionOptions: InferenceSession.SessionOptions;
}

/** Choose the graph of a route; throws `DeviceError` if there is none for the device, or its verification failed. */
export async function prepareGraph(
  bundle: Bundle,
  route: string | undefined,
  options: EngineOptions,
): Promise<PreparedGraph> {
  const { executionProviders } = options;
  const graph = bundle.manifest.graphs.find((one) => one.route === route && suits(one, executionProviders));
  if (graph === undefined) {
    throw new DeviceError(whyNoGraph(bundle, executionProviders));
  }
  if (isWebGpu(executionProviders) && graph.precision === FP16) {
    await checkFloat16(bundle);
  }
  checkVerification(bundle, deviceKind(executionProviders));
  const reference = await bundle.source.graph(graph.file, weightsFileOf(bundle.manifest, graph));
  const externalData =
    "bytes" in reference ? { externalData: [{ path: reference.weights.name, data: reference.weights.bytes }] } : {};
  return { graph, reference, sessionOptions: { ...sessionOptions(graph, options), ...externalData } };
}

/** Load the graph of a route; throws `DeviceError` as `prepareGraph`, and `BundleError` if it cannot be loaded. */
export async function openEngine(
  { name, version, runtime }: RuntimePackage,
  bundle: Bundle,
  route: string | undefined,
  options: EngineOptions,
): Promise<Engine> {
  const { graph, reference, sessionOptions } = await prepareGraph(bundle, route, options);
  let session: InferenceSession;
  try {
    session =
      "bytes" in reference
        ? await runtime.InferenceSession.create(reference.bytes, sessionOptions)
        : await runtime.InferenceSession.create(reference.path, sessionOptions);
  } catch (error) {
    throw new BundleError(bundle.name, [`${name} ${version} cannot load ${graph.file} (${firstLine(error)})`], { cause: error });
  }
  checkSignature(session, bundle, graph);
  const device = providerName(options.executionProviders[0] ?? "cpu");
  return new OnnxRuntimeEngine(session, runtime.Tensor, graph, name, version, device, options.threads, bundle.manifest.width);
}

/** Why none of a bundle's graphs suits. */
function whyNoGraph(bundle: Bundle, providers: readonly ExecutionProvider[]): string {
  const kind = deviceKind(providers);
  if (!bundle.manifest.graphs.some(({ devices }) => devices.includes(kind))) {
    return `bundle ${bundle.name} has no graph for ${JSON.stringify(kind)}: export it again for that device`;
  }
  const others = bundle.precisions.filter((precision) => precision !== INT8);
  const advice =
    others.length > 0
      ? `choose the graphPrecision ${others.map((precision) => JSON.stringify(precision)).join(" or ")}`
      : `export it with --precision ${INT8_WEIGHTS} or fp32`;
  return `WebGPU cannot run the int8 layers of bundle ${bundle.name}: ${advice}, or run it on "wasm" or "cpu"`;
}

/** Throw `DeviceError` where a browser's GPU has no float16; elsewhere ONNX Runtime finds out. */
async function checkFloat16(bundle: Bundle): Promise<void> {
  if (globalThis.navigator?.gpu === undefined) {
    return;
  }
  const adapter = await navigator.gpu.requestAdapter();
  if (adapter?.features.has("shader-f16") !== true) {
    throw new DeviceError(
      `bundle ${bundle.name} needs float16, which this GPU does not have in WebGPU ("shader-f16"): open one with ` +
        `--precision fp32 or ${INT8_WEIGHTS}, or run it on "wasm"`,
    );
  }
}

/** The name of a provider, which may have options. */
export function providerName(provider: ExecutionProvider): string {
  return typeof provider === "string" ? provider : provider.name;
}

/** How a session of a graph is created. */
export function sessionOptions(graph: GraphKind, options: EngineOptions): InferenceSession.SessionOptions {
  return {
    executionProviders: options.executionProviders,
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    // A memory pattern is one more large block for every new shape.
    enableMemPattern: false,
    // What it logs as an error it also raises.
    logSeverityLevel: 4,
    extra: {
      session: {
        // Threads spin during a run, for latency, and sleep after it.
        force_spinning_stop: "1",
        // Otherwise float32 values that are multiplied with int8 weights are rounded, too.
        qdq_matmulnbits_accuracy_level: "1",
        // Weights of int8 are widened once, when the graph is loaded, by ConstantFolding.
        ...(graph.precision === INT8_WEIGHTS ? { disable_quant_qdq: "1" } : {}),
      },
      // Dynamically quantized graphs come from an ONNX file: with the fusions of that file they round as it does.
      ...(graph.maxBatchSize === 1 ? {} : { optimization: { disable_specified_optimizers: disabledFor(graph) } }),
    },
  };
}

function disabledFor(graph: GraphKind): string {
  return graph.precision === INT8_WEIGHTS ? SLOWER_FUSIONS : `${SLOWER_FUSIONS};${COPYING}`;
}

function checkVerification(bundle: Bundle, kind: string): void {
  for (const result of bundle.manifest.verifications) {
    if (result.engine === "onnxruntime" && result.device === kind && result.computeDtype === "float32" && !result.passed) {
      throw new DeviceError(
        `bundle ${bundle.name} failed verification on ${JSON.stringify(kind)} when it was exported with ONNX Runtime ` +
          `${result.version} (${result.reason}): export it again`,
      );
    }
  }
}

/** Throw `BundleError` unless the session's inputs and outputs are those of the manifest. */
function checkSignature(session: InferenceSession, bundle: Bundle, graph: Graph): void {
  const actual = new Map(
    [...session.inputMetadata, ...session.outputMetadata].map((metadata) => [metadata.name, metadata]),
  );
  const stated = new Map<string, TensorSpec>([...graph.inputs, ...graph.outputs]);
  if (actual.size !== stated.size || [...stated.keys()].some((name) => !actual.has(name))) {
    const [has, says] = [actual, stated].map((one) => [...one.keys()].sort().join(", "));
    throw new BundleError(bundle.name, [`${graph.file} has ${has}, the manifest ${says}`]);
  }
  for (const [name, spec] of stated) {
    const metadata = actual.get(name);
    const columns = spec.shape.at(-1);
    const fits =
      metadata?.isTensor === true &&
      metadata.type === spec.dtype &&
      metadata.shape.length === spec.shape.length &&
      (graph.inputs.has(name) || metadata.shape.at(-1) === columns);
    if (!fits) {
      throw new BundleError(bundle.name, [`${graph.file}: ${name} is not ${spec.dtype} [${spec.shape.join(", ")}]`]);
    }
  }
}

class OnnxRuntimeEngine implements Engine {
  readonly #output: string;
  // Packages of ONNX Runtime run one batch at a time.
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly session: InferenceSession,
    private readonly tensor: TensorConstructor,
    readonly graph: Graph,
    readonly name: string,
    readonly version: string,
    readonly device: string,
    readonly threads: number,
    private readonly width: number,
  ) {
    this.#output = [...graph.outputs.keys()][0] ?? "";
  }

  async run(batch: Batch): Promise<Float32Array> {
    const result = this.#last.then(() => this.#run(batch));
    this.#last = result.catch(() => {});
    return result;
  }

  async #run({ rows, columns, inputs }: Batch): Promise<Float32Array> {
    const feeds: Record<string, Tensor> = {};
    for (const [name, values] of inputs) {
      feeds[name] = new this.tensor("int64", values, [rows, columns]);
    }
    let output: Tensor | undefined;
    try {
      output = (await this.session.run(feeds, [this.#output]))[this.#output];
    } catch (error) {
      const what = `${this.name} failed on a batch of ${rows} texts and ${columns} tokens`;
      throw new MonographError(`${what} (${firstLine(error)})`, { cause: error });
    }
    return this.#check(output, rows);
  }

  /** The values of an output that is finite float32 [rows, width]. */
  #check(output: Tensor | undefined, rows: number): Float32Array {
    const values = output?.data;
    const [height, width] = output?.dims ?? [];
    if (!(values instanceof Float32Array) || height !== rows || width !== this.width) {
      throw new MonographError(
        `${this.name} returned ${output?.type} [${output?.dims.join(", ")}] where float32 [${rows}, ${this.width}] was due: ` +
          "verify the bundle, or choose another execution provider",
      );
    }
    if (!values.every(Number.isFinite)) {
      throw new MonographError(
        `${this.name} returned NaN or infinity: verify the bundle, or choose another execution provider`,
      );
    }
    return values;
  }

  async close(): Promise<void> {
    await this.#last;
    await this.session.release();
  }
}
