/** The package in a browser: bundles of the web, on onnxruntime-web, in a Worker unless it is turned off. */

import type { ModelHost } from "./inference/host.js";
import { type OpenOptions, setPlatform } from "./platform.js";
import { openWorkerHost } from "./worker/client.js";

export * from "./api.js";

async function openHost(bundle: string | URL, options: OpenOptions): Promise<ModelHost> {
  options.signal?.throwIfAborted();
  const url = new URL(bundle, globalThis.document?.baseURI ?? globalThis.location.href).href;
  const { worker = typeof Worker !== "undefined", signal, onProgress, ...settings } = options;
  if (worker === false) {
    // A page whose models run in Workers does not load what runs them.
    const { openWebHost } = await import("./worker/local.js");
    return openWebHost(url, settings, { signal, onProgress });
  }
  return openWorkerHost(worker === true ? startWorker() : worker, url, settings, { signal, onProgress });
}

function startWorker(): Worker {
  // In this form bundlers find the Worker's module.
  return new Worker(new URL("./worker/worker.js", import.meta.url), { type: "module" });
}

setPlatform(openHost);
