/** What Node and browsers do in ways of their own: each entry point of the package says how. */

import type { Progress } from "./bundle/source.js";
import type { ExecutionProvider } from "./engines/onnxruntime.js";
import { MonographError } from "./errors.js";
import type { ModelHost } from "./inference/host.js";
import type { QualityLevel } from "./tasks/task.js";

export interface OpenOptions {
  /**
   * Threads of the engine; by default as many as there are CPUs, in a browser one less and at most four. There more than
   * one thread needs a page that is cross-origin isolated.
   */
  readonly threads?: number | undefined;
  /** Of ONNX Runtime: by default `["cpu"]` in Node and `["wasm"]` in a browser. There is no fallback to another. */
  readonly executionProviders?: readonly ExecutionProvider[] | undefined;
  /** Which of a bundle's precisions to run, for example "int8"; by default that of its first graph for the device. */
  readonly graphPrecision?: string | undefined;
  /**
   * The loss that is accepted, of a bundle with several precisions: runs the fastest that reaches the level by what the
   * bundle states. By default the loss is not considered.
   */
  readonly quality?: QualityLevel | undefined;
  /** "fast" checks the hashes of the small files and the size of the weights, "full" all hashes. */
  readonly check?: "fast" | "full" | undefined;
  /** Called as files are downloaded or hashed. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Stops the opening. */
  readonly signal?: AbortSignal | undefined;
  /** In a browser: whether to cache files by their hash, true by default. */
  readonly cache?: boolean | undefined;
  /**
   * In a browser: whether the model runs in a Worker, true by default, so that it does not block the page. A Worker of
   * your own has to import "monograph-runtime/worker".
   */
  readonly worker?: boolean | Worker | undefined;
  /** In a browser: the folder from which ONNX Runtime loads its WebAssembly, if it is not beside the package. */
  readonly wasmPaths?: string | undefined;
}

export type OpenHost = (bundle: string | URL, options: OpenOptions) => Promise<ModelHost>;

let opener: OpenHost | undefined;

/** Set how bundles are opened here. */
export function setPlatform(openHost: OpenHost): void {
  opener = openHost;
}

/** Open a bundle as this platform does. */
export async function openHost(bundle: string | URL, options: OpenOptions): Promise<ModelHost> {
  if (opener === undefined) {
    throw new MonographError("import from monograph-runtime, not from one of its files");
  }
  return opener(bundle, options);
}
