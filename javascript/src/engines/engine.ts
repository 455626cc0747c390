/** The interface of what runs a graph; it imports no engine. */

import type { Graph } from "../bundle/manifest.js";

/** One batch: inputs int64 [rows, columns] by name. */
export interface Batch {
  readonly rows: number;
  readonly columns: number;
  readonly inputs: ReadonlyMap<string, BigInt64Array>;
}

export interface Engine {
  readonly graph: Graph;
  /** "onnxruntime-node" or "onnxruntime-web", and the version. */
  readonly name: string;
  readonly version: string;
  /** The execution provider that the caller chose, or the default. */
  readonly device: string;
  readonly threads: number;

  /** Run one batch, and return float32 [rows, width] in row order. */
  run(batch: Batch): Promise<Float32Array>;

  close(): Promise<void>;
}
