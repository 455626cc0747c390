/** manifest.json: the only contract between the exporter and a reader. */

import type { Section, Task } from "../tasks/task.js";
import type { Loss } from "./quality.js";

export const FORMAT_VERSION = 1;
export const MANIFEST_FILE = "manifest.json";
/** Hundreds of times what a manifest has. */
export const MAX_MANIFEST_BYTES = 8 * 2 ** 20;
export const PROBES_FILE = "probes.json";
export const MEASUREMENTS_FILE = "measurements.json";
export const GRAPH_SUFFIX = ".onnx";
export const WEIGHTS_SUFFIX = ".onnx.data";
export const POOLING_MASK = "pooling_mask";
/** What a reader can feed to a graph. */
export const GRAPH_INPUTS = ["input_ids", "attention_mask", "token_type_ids", POOLING_MASK] as const;
/** Domains of operators that an engine brings itself: any other would need a library, which is code. */
export const OP_DOMAINS: readonly string[] = ["", "ai.onnx", "com.microsoft"];

/** The checkpoint that a bundle was exported from. */
export interface Source {
  readonly name: string;
  readonly revision: string | undefined;
  readonly license: string | undefined;
}

/** An input or output of a graph; dynamic axes have a name in `shape` instead of a size. */
export interface TensorSpec {
  readonly dtype: string;
  readonly shape: readonly (string | number)[];
}

/** One ONNX graph, and the devices it is for. */
export interface Graph {
  readonly file: string;
  readonly devices: readonly string[];
  readonly precision: string;
  readonly opset: number;
  readonly inputs: ReadonlyMap<string, TensorSpec>;
  readonly outputs: ReadonlyMap<string, TensorSpec>;
  readonly opDomains: readonly string[];
  readonly maxBatchSize: number | undefined;
  readonly route: string | undefined;
  /** Bytes of the file of weights that the graph reads, undefined for all. */
  readonly weightsBytes: number | undefined;
}

/** How texts become token ids; `maxLength` counts special tokens, undefined for no limit. */
export interface TokenizerSpec {
  readonly file: string;
  readonly maxLength: number | undefined;
  readonly paddingSide: string;
  readonly padId: number;
  readonly vocabularySize: number;
  readonly specialIds: readonly number[];
  readonly minLength: number;
}

/** The routes of a model that embeds queries and documents differently. */
export interface Routing {
  readonly tokenizers: ReadonlyMap<string, TokenizerSpec>;
  readonly tasks: ReadonlyMap<string, string>;
  readonly default: string | undefined;
}

export interface FileEntry {
  readonly bytes: number;
  readonly sha256: string;
}

/** A verification at the export: whether an engine was right on the probes. */
export interface Verification {
  readonly engine: string;
  readonly version: string;
  readonly device: string;
  readonly computeDtype: string;
  readonly passed: boolean;
  readonly reason: string;
}

/** What a precision after the first has of its own. */
export interface FurtherPrecision {
  /** The file of its probes. */
  readonly probes: string;
  readonly verifications: readonly Verification[];
  readonly loss: Loss;
}

/** The contents of manifest.json. */
export interface Manifest {
  readonly formatVersion: number;
  readonly task: Task;
  readonly source: Source;
  readonly graphs: readonly Graph[];
  readonly tokenizer: TokenizerSpec;
  readonly section: Section;
  /** Columns of the graphs' output. */
  readonly width: number;
  readonly prompts: ReadonlyMap<string, string>;
  readonly defaultPromptName: string | undefined;
  readonly verifications: readonly Verification[];
  /** Of the first precision. */
  readonly loss: Loss;
  readonly producer: ReadonlyMap<string, string>;
  readonly files: ReadonlyMap<string, FileEntry>;
  readonly routing: Routing | undefined;
  /** By precision: those of graphs after the first, which is the default. */
  readonly furtherPrecisions: ReadonlyMap<string, FurtherPrecision>;
}

/** The precisions of the graphs; the first is the default. */
export function precisionsOf(manifest: Pick<Manifest, "graphs">): readonly string[] {
  return [...new Set(manifest.graphs.map(({ precision }) => precision))];
}

/** The tokenizer of each route; without routes the only one, under undefined. */
export function tokenizersOf(manifest: Pick<Manifest, "tokenizer" | "routing">): Map<string | undefined, TokenizerSpec> {
  return manifest.routing === undefined
    ? new Map([[undefined, manifest.tokenizer]])
    : new Map(manifest.routing.tokenizers);
}

/** The file of a graph's weights: its own, or the first that is listed, which graphs share. */
export function weightsFileOf(manifest: Pick<Manifest, "files">, graph: Graph): string {
  const own = graph.file.slice(0, -GRAPH_SUFFIX.length) + WEIGHTS_SUFFIX;
  return manifest.files.has(own) ? own : ([...manifest.files.keys()].find((name) => name.endsWith(WEIGHTS_SUFFIX)) ?? own);
}
