/** ONNX Runtime in either of its packages, onnxruntime-node and onnxruntime-web. */

import type { Env, InferenceSession, Tensor, TensorConstructor } from "onnxruntime-web";

import type { Bundle } from "../bundle/bundle.js";
import { type Graph, type TensorSpec, weightsFileOf } from "../bundle/manifest.js";
import { BundleError, DeviceError, firstLine, InputError, MonographError } from "../errors.js";
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
const INT8_WEIGHTS = "int8-weights";
// Providers that run the graphs which the manifest has for another device than "cpu".
const DEVICES: ReadonlyMap<string, string> = new Map([["cuda", "cuda"]]);

/** The bundle with the graphs of one precision: the chosen one, or that of the first graph for the device. */
export function chooseGraphs(bundle: Bundle, providers: readonly ExecutionProvider[], precision?: string): Bundle {
  const known = bundle.precisions;
  if (precision !== undefined && !known.includes(precision)) {
    throw new InputError(`graphPrecision ${JSON.stringify(precision)} is not one of this bundle's: ${known.join(", ")}`);
  }
  const kind = deviceKind(providers);
  const first = bundle.manifest.graphs.find(({ devices }) => devices.includes(kind));
  return bundle.restrictedTo(precision ?? first?.precision ?? known[0]);
}

/** The kind of device, as the manifest names it, that a provider runs on. */
function deviceKind(providers: readonly ExecutionProvider[]): string {
  return DEVICES.get(providerName(providers[0] ?? "cpu")) ?? "cpu";
}

/** Load the graph of a route; throws `DeviceError` if there is none for the device, or its verification failed. */
export async function openEngine(
  { name, version, runtime }: RuntimePackage,
  bundle: Bundle,
  route: string | undefined,
  options: EngineOptions,
): Promise<Engine> {
  const device = providerName(options.executionProviders[0] ?? "cpu");
  const kind = deviceKind(options.executionProviders);
  const graph = bundle.manifest.graphs.find((one) => one.route === route && one.devices.includes(kind));
  if (graph === undefined) {
    throw new DeviceError(`bundle ${bundle.name} has no graph for ${JSON.stringify(kind)}: export it again for that device`);
  }
  checkVerification(bundle, kind);
  const weights = weightsFileOf(bundle.manifest, graph);
  const reference = await bundle.source.graph(graph.file, weights);
  const isInMemory = "bytes" in reference;
  const sessionOptions = {
    ...settingsFor(graph, options),
    ...(isInMemory ? { externalData: [{ path: reference.weights.name, data: reference.weights.bytes }] } : {}),
  };
  let session: InferenceSession;
  try {
    session = isInMemory
      ? await runtime.InferenceSession.create(reference.bytes, sessionOptions)
      : await runtime.InferenceSession.create(reference.path, sessionOptions);
  } catch (error) {
    throw new BundleError(bundle.name, [`${name} ${version} cannot load ${graph.file} (${firstLine(error)})`], { cause: error });
  }
  checkSignature(session, bundle, graph);
  return new OnnxRuntimeEngine(session, runtime.Tensor, graph, name, version, device, options.threads, bundle.manifest.width);
}

/** The name of a provider, which may have options. */
export function providerName(provider: ExecutionProvider): string {
  return typeof provider === "string" ? provider : provider.name;
}

function settingsFor(graph: Graph, options: EngineOptions): InferenceSession.SessionOptions {
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

function disabledFor(graph: Graph): string {
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
