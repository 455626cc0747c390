/** The package in Node: bundles of folders and of the web, on onnxruntime-node. */

import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";

import { openBundle } from "./bundle/bundle.js";
import type { BundleSource } from "./bundle/source.js";
import { chooseGraphs, type OnnxRuntime, openEngine, type RuntimePackage } from "./engines/onnxruntime.js";
import { DeviceError, firstLine } from "./errors.js";
import { type ModelHost, openLocalHost } from "./inference/host.js";
import { type OpenOptions, setPlatform } from "./platform.js";
import { FolderSource } from "./sources/folder.js";
import { WebSource } from "./sources/web.js";

export * from "./api.js";

async function openHost(bundle: string | URL, options: OpenOptions): Promise<ModelHost> {
  const { onProgress, signal, check, executionProviders = ["cpu"] } = options;
  signal?.throwIfAborted();
  const whole = await openBundle(sourceOf(bundle), { full: check === "full", onProgress, signal });
  const opened = chooseGraphs(whole, executionProviders, options);
  const runtime = await importRuntime();
  signal?.throwIfAborted();
  const threads = options.threads ?? availableParallelism();
  return openLocalHost(opened, (one, route) => openEngine(runtime, one, route, { threads, executionProviders }));
}

function sourceOf(bundle: string | URL): BundleSource {
  const text = String(bundle);
  if (/^https?:\/\//i.test(text)) {
    return new WebSource(text, false);
  }
  return new FolderSource(bundle instanceof URL || text.startsWith("file:") ? fileURLToPath(bundle) : text);
}

async function importRuntime(): Promise<RuntimePackage> {
  // Read when the library is loaded: its builds for Linux send usage data otherwise.
  process.env.ORT_DISABLE_TELEMETRY = "1";
  try {
    const runtime = (await import("onnxruntime-node")) as OnnxRuntime & { readonly default?: OnnxRuntime };
    const { env, InferenceSession, Tensor } = runtime.default ?? runtime;
    return { name: "onnxruntime-node", version: env.versions.node ?? "", runtime: { env, InferenceSession, Tensor } };
  } catch (error) {
    throw new DeviceError(`onnxruntime-node cannot be loaded (${firstLine(error)}): npm install onnxruntime-node`, {
      cause: error,
    });
  }
}

setPlatform(openHost);
