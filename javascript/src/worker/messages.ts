/** What a page and its Worker send each other. */

import type { Progress } from "../bundle/source.js";
import { BundleError, DeviceError, firstLine, InputError, MonographError } from "../errors.js";
import type { ModelHost, ModelInfo, RunOptions, SparseRunOptions } from "../inference/host.js";
import type { OpenOptions } from "../platform.js";
import type { Input } from "../tokenizer/tokenizer.js";

/** The options of an opening that can be sent. */
export type Settings = Omit<OpenOptions, "worker" | "signal" | "onProgress">;

/** What the page can ask for, with the answers. */
export interface Calls {
  open: { readonly arguments: readonly [url: string, settings: Settings]; readonly result: ModelInfo };
  run: { readonly arguments: readonly [readonly Input[], RunOptions]; readonly result: Float32Array };
  runSparse: {
    readonly arguments: readonly [readonly Input[], SparseRunOptions];
    readonly result: Awaited<ReturnType<ModelHost["runSparse"]>>;
  };
  tokens: { readonly arguments: readonly [readonly number[]]; readonly result: string[] };
  verify: { readonly arguments: readonly []; readonly result: Awaited<ReturnType<ModelHost["verify"]>> };
  close: { readonly arguments: readonly []; readonly result: undefined };
}

export type CallName = keyof Calls;

/** A call by its number, or that it is not wanted any more. */
export type Request =
  | { [N in CallName]: { readonly id: number; readonly name: N; readonly arguments: Calls[N]["arguments"] } }[CallName]
  | { readonly id: number; readonly name: "abort" };

/** What became of a call, or how far it is. */
export type Response =
  | { readonly id: number; readonly result: Calls[CallName]["result"] }
  | { readonly id: number; readonly error: SentError }
  | { readonly id: number; readonly progress: Progress };

/** An error without its class, which messages lose. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly bundle: string | undefined;
  readonly problems: readonly string[];
}

export function toSent(error: unknown): SentError {
  const { bundle, problems } = error instanceof BundleError ? error : { bundle: undefined, problems: [] };
  return {
    name: error instanceof Error ? error.name : "Error",
    message: error instanceof Error ? error.message : firstLine(error),
    bundle,
    problems,
  };
}

export function fromSent({ name, message, bundle, problems }: SentError): Error {
  switch (name) {
    case "BundleError":
      return new BundleError(bundle ?? "", problems);
    case "DeviceError":
      return new DeviceError(message);
    case "InputError":
      return new InputError(message);
    case "MonographError":
      return new MonographError(message);
    default:
      return Object.assign(new Error(message), { name });
  }
}
