/** Open a bundle of the web in this thread, which is a Worker's or the page's own. */

import { bytesOf } from "../bundle/base64.js";
import { openBundle } from "../bundle/bundle.js";
import {
  chooseGraphs,
  type ExecutionProvider,
  openEngine,
  type OnnxRuntime,
  providerName,
  type RuntimePackage,
} from "../engines/onnxruntime.js";
import { DeviceError, firstLine } from "../errors.js";
import { type ModelHost, openLocalHost, type RunControl } from "../inference/host.js";
import { WebSource } from "../sources/web.js";
import type { Settings } from "./messages.js";

// More threads are rarely faster, and each takes memory.
const MAX_DEFAULT_THREADS = 4;

// An Identity of one value: a session of it makes ONNX Runtime fetch and compile its WebAssembly.
const SMALLEST_GRAPH = "CAgSADo3ChAKAXgSAXkiCElkZW50aXR5EgFnWg8KAXgSCgoICAESBAoCCAFiDwoBeRIKCggIARIECgIIAUIECgAQDQ==";

export async function openWebHost(url: string, settings: Settings, control: RunControl): Promise<ModelHost> {
  const { executionProviders = ["wasm"], check, cache = true } = settings;
  const threads = threadsOf(settings.threads);
  // The engine is loaded while the bundle is.
  const loading = loadRuntime(executionProviders, threads, settings.wasmPaths);
  loading.catch(() => {});
  const whole = await openBundle(new WebSource(url, cache), { full: check === "full", ...control });
  const bundle = chooseGraphs(whole, executionProviders, settings.graphPrecision);
  const runtime = await loading;
  control.signal?.throwIfAborted();
  return openLocalHost(bundle, (one, route) => openEngine(runtime, one, route, { threads, executionProviders }));
}

async function loadRuntime(
  executionProviders: readonly ExecutionProvider[],
  threads: number,
  wasmPaths: string | undefined,
): Promise<RuntimePackage> {
  const loaded = await importRuntime(executionProviders);
  const { env, InferenceSession } = loaded.runtime;
  env.wasm.numThreads = threads;
  if (wasmPaths !== undefined) {
    env.wasm.wasmPaths = wasmPaths;
  }
  try {
    await (await InferenceSession.create(bytesOf(SMALLEST_GRAPH), { executionProviders })).release();
  } catch (error) {
    throw new DeviceError(`onnxruntime-web cannot run ${providerName(executionProviders[0])} here (${firstLine(error)})`, { cause: error });
  }
  return loaded;
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
  return requested ?? Math.max(1, Math.min(MAX_DEFAULT_THREADS, navigator.hardwareConcurrency));
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
