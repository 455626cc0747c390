/** Where the files of a bundle are: a folder, or the web. */

import type { FileEntry } from "./manifest.js";

/** How far a long step is. */
export interface Progress {
  readonly step: "download" | "hash" | "encode" | "verify";
  /** Bytes; of "encode" and "verify" texts. */
  readonly done: number;
  readonly total: number;
}

export interface TransferOptions {
  /** Hash every file; otherwise the size of weights is enough if nothing was transferred. */
  readonly full: boolean;
  /** Called with the number of bytes that were transferred or, of local files that are hashed whole, hashed. */
  readonly onBytes: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A graph as an engine opens it: by a path beside its weights, or as bytes with the weights by their name. */
export type GraphReference =
  | { readonly path: string }
  | { readonly bytes: Uint8Array; readonly weights: { readonly name: string; readonly bytes: Uint8Array } };

/** The files of one bundle. A file is used only after `check` found nothing wrong with it. */
export interface BundleSource {
  /** What errors call the bundle. */
  readonly name: string;
  /** Whether its files can be read without transferring them. */
  readonly isLocal: boolean;

  /** The bytes of manifest.json; throws `BundleError` if there is none. */
  readManifest(signal?: AbortSignal): Promise<Uint8Array>;

  /** Compare files with the manifest's list; what is wrong, by name. */
  check(files: ReadonlyMap<string, FileEntry>, options: TransferOptions): Promise<ReadonlyMap<string, string>>;

  /** The content of a file that was checked. */
  read(name: string): Promise<Uint8Array>;

  /** The content of measurements.json, undefined if the bundle has none; throws `BundleError` if it is unusable. */
  readMeasurements(maxBytes: number): Promise<Uint8Array | undefined>;

  /** A graph for an engine. */
  graph(file: string, weights: string): Promise<GraphReference>;

  /** Forget what is held in memory for `graph`: the engine has it. */
  release(): void;

  /** Finish what goes on behind the opening, such as caching. */
  close(): Promise<void>;
}
