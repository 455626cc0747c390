/** Open a bundle of the web in this thread, which is a Worker's or the page's own. */

import { bytesOf } from "../bundle/base64.js";
import { openBundle } from "../bundle/bundle.js";
import {
  chooseGraphs,
  type EngineOptions,
  type ExecutionProvider,
  openEngine,
  type OnnxRuntime,
  providerName,
  type RuntimePackage,
  sessionOptions,
} from "../engines/onnxruntime.js";
import { DeviceError, firstLine } from "../errors.js";
import { type ModelHost, openLocalHost, type RunControl } from "../inference/host.js";
import { WebSource } from "../sources/web.js";
import type { Settings } from "./messages.js";
import { WARM_UP_GRAPH } from "./warm-up-graph.js";

// More threads are rarely faster, and each takes memory.
const MAX_DEFAULT_THREADS = 4;

// Texts and tokens of the first run: enough that the optimizing compiler takes on the loops of int8.
const WARM_UP_SHAPE = [32, 8] as const;

export async function openWebHost(url: string, settings: Settings, control: RunControl): Promise<ModelHost> {
  const { executionProviders = ["wasm"], check, cache = true } = settings;
  const threads = threadsOf(settings.threads);
  // The engine is loaded while the bundle is.
  const loading = loadRuntime(executionProviders, threads, settings.wasmPaths);
  loading.catch(() => {});
  const whole = await openBundle(new WebSource(url, cache), { full: check === "full", ...control });
  const bundle = chooseGraphs(whole, executionProviders, settings);
  return openLocalHost(bundle, async (one, route) => {
    const runtime = await loading;
    control.signal?.throwIfAborted();
    return openEngine(runtime, one, route, { threads, executionProviders });
  });
}

async function loadRuntime(
  executionProviders: readonly ExecutionProvider[],
  threads: number,
  wasmPaths: string | undefined,
): Promise<RuntimePackage> {
  const loaded = await importRuntime(executionProviders);
  const { env } = loaded.runtime;
  env.wasm.numThreads = threads;
  if (wasmPaths !== undefined) {
    env.wasm.wasmPaths = wasmPaths;
  }
  try {
    await warmUp(loaded.runtime, { executionProviders, threads });
  } catch (error) {
    throw new DeviceError(`onnxruntime-web cannot run ${providerName(executionProviders[0])} here (${firstLine(error)})`, { cause: error });
  }
  return loaded;
}

/**
 * Run a small graph while the weights are transferred.
 *
 * ONNX Runtime fetches its WebAssembly for the first session, and a browser compiles a function of it when it is first
 * called: without this the first text would wait for that.
 */
async function warmUp({ InferenceSession, Tensor }: OnnxRuntime, options: EngineOptions): Promise<void> {
  const session = await InferenceSession.create(bytesOf(WARM_UP_GRAPH), sessionOptions({ precision: "int8" }, options));
  const [rows, columns] = WARM_UP_SHAPE;
  const ones = new Tensor("int64", new BigInt64Array(rows * columns).fill(1n), [rows, columns]);
  await session.run(Object.fromEntries(session.inputNames.map((name) => [name, ones])));
  await session.release();
}

function threadsOf(requested: number | undefined): number {
  if (!globalThis.crossOriginIsolated) {
    if (requested !== undefined && requested > 1) {
      throw new DeviceError(
        `${requested} threads need a page that is cross-origin isolated: serve it with the headers ` +
          "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp, or leave threads out",
      );
    }
    return 1;
  }
  // One is left to the page, whose tasks would wait for its turn among them.
  return requested ?? Math.max(1, Math.min(MAX_DEFAULT_THREADS, navigator.hardwareConcurrency - 1));
}

async function importRuntime(providers: readonly ExecutionProvider[]): Promise<RuntimePackage> {
  const needsGpu = providers.some((provider) => providerName(provider) === "webgpu");
  try {
    const runtime: OnnxRuntime = needsGpu
      ? await import("onnxruntime-web/webgpu")
      : await import("onnxruntime-web/wasm");
    return { name: "onnxruntime-web", version: runtime.env.versions.web ?? "", runtime };
  } catch (error) {
    throw new DeviceError(`onnxruntime-web cannot be loaded (${firstLine(error)})`, { cause: error });
  }
}
