/** Open a bundle: check everything that a reader must check before an engine sees any of it. */

import { BundleError } from "../errors.js";
import { Fields } from "./fields.js";
import { MAX_GRAPH_BYTES, scanGraph } from "./graph-scanner.js";
import { sha256 } from "./hashing.js";
import { JsonError, type JsonValue, parseJson } from "./json.js";
import {
  type FileEntry,
  type Manifest,
  MANIFEST_FILE,
  MAX_MANIFEST_BYTES,
  MEASUREMENTS_FILE,
  precisionsOf,
  PROBES_FILE,
  WEIGHTS_SUFFIX,
  weightsFileOf,
} from "./manifest.js";
import { readManifest } from "./manifest-reader.js";
import { isPlainName } from "./names.js";
import { MAX_PROBES_BYTES, MAX_PROBES_VALUES, type Probes, readProbes } from "./probes.js";
import { type Measurements, readMeasurements, withMeasured } from "./quality.js";
import type { BundleSource, Progress, TransferOptions } from "./source.js";

// What is hashed at every opening is bounded: more than all graphs, tokenizers and probes of a bundle have.
const MAX_HASHED_BYTES = 2 ** 30;

/** How a bundle is opened. */
export interface CheckOptions extends Omit<TransferOptions, "onBytes"> {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** A bundle whose files have been checked, those of weights as soon as `checked` is fulfilled. */
export class Bundle {
  constructor(
    readonly source: BundleSource,
    readonly manifest: Manifest,
    readonly manifestSha256: string,
    /** Rejected with a `BundleError` if something is wrong with the weights, whose transfer takes longest. */
    readonly checked: Promise<void>,
    private readonly probesFile = PROBES_FILE,
    /** The precisions of its graphs, also of those that it was restricted from; the first is the default. */
    readonly precisions = precisionsOf(manifest),
  ) {}

  /** The bundle as one that has a single one of its precisions. */
  restrictedTo(precision: string): Bundle {
    const further = this.manifest.furtherPrecisions.get(precision);
    const manifest: Manifest = {
      ...this.manifest,
      graphs: this.manifest.graphs.filter((graph) => graph.precision === precision),
      verifications: further?.verifications ?? this.manifest.verifications,
      loss: further?.loss ?? this.manifest.loss,
      furtherPrecisions: new Map(),
    };
    const probesFile = further?.probes ?? this.probesFile;
    return new Bundle(this.source, manifest, this.manifestSha256, this.checked, probesFile, this.precisions);
  }

  get name(): string {
    return this.source.name;
  }

  /** The sets of probes; throws `BundleError` if they are missing or malformed. */
  async readProbes(): Promise<readonly Probes[]> {
    const file = this.probesFile;
    const content = await this.source.read(file);
    if (content.length > MAX_PROBES_BYTES) {
      throw new BundleError(this.name, [`${file} has more than ${MAX_PROBES_BYTES} bytes`]);
    }
    const value = parseFile(this.name, file, content, MAX_PROBES_VALUES);
    const { sets, problems } = readProbes(value, this.manifest.width);
    if (problems.length > 0) {
      throw new BundleError(this.name, problems.map((problem) => `${file}: ${problem}`));
    }
    return sets;
  }
}

/**
 * Read and check a bundle; throws `BundleError` with every problem.
 *
 * It is returned before its weights are checked unless something else is wrong: wait for `checked`.
 */
export async function openBundle(source: BundleSource, options: CheckOptions): Promise<Bundle> {
  const content = await source.readManifest(options.signal);
  if (content.length > MAX_MANIFEST_BYTES) {
    throw new BundleError(source.name, [`${MANIFEST_FILE} has more than ${MAX_MANIFEST_BYTES} bytes`]);
  }
  const read = readManifest(parseFile(source.name, MANIFEST_FILE, content));
  const { manifest } = read;
  const problems = [...read.problems];
  if (manifest === undefined) {
    if (source.isLocal) {
      const { small, weights } = startFileChecks(source, read.files, options);
      problems.push(...inOrder(read.files, await small, await weights));
    }
    throw new BundleError(source.name, problems);
  }
  const { small, weights } = startFileChecks(source, manifest.files, options);
  const digest = await sha256(content);
  const fileProblems = await small;
  const graphProblems = await findGraphProblems(source, manifest, fileProblems);
  const measurements = await openMeasurements(source, digest, problems);
  if (problems.length + fileProblems.size + graphProblems.length > 0) {
    problems.push(...inOrder(manifest.files, fileProblems, await weights), ...graphProblems);
    source.release();
    throw new BundleError(source.name, problems);
  }
  const checked = weights.then((found) => {
    if (found.size > 0) {
      source.release();
      throw new BundleError(source.name, inOrder(manifest.files, found));
    }
  });
  // Whoever opens the bundle waits for it later.
  checked.catch(() => {});
  return new Bundle(source, measurements === undefined ? manifest : withMeasurements(manifest, measurements), digest, checked);
}

/** Problems of files, in the order in which the manifest lists these. */
function inOrder(files: ReadonlyMap<string, FileEntry>, ...found: readonly ReadonlyMap<string, string>[]): string[] {
  const names = new Set([...files.keys(), ...found.flatMap((problems) => [...problems.keys()])]);
  const problems = [...names].flatMap((name) => found.map((one) => one.get(name)));
  return [...new Set(problems.filter((problem) => problem !== undefined))];
}

function withMeasurements(manifest: Manifest, { first, furtherPrecisions }: Measurements): Manifest {
  const further = [...manifest.furtherPrecisions].map(
    ([precision, entry]) => [precision, withMeasured(entry, furtherPrecisions.get(precision))] as const,
  );
  return { ...withMeasured(manifest, first), furtherPrecisions: new Map(further) };
}

function parseFile(bundle: string, name: string, content: Uint8Array, maxValues?: number): JsonValue {
  try {
    return parseJson(content, maxValues);
  } catch (error) {
    if (!(error instanceof JsonError)) {
      throw error;
    }
    throw new BundleError(bundle, [`${name} is not JSON as a bundle has it (${error.message}): export the model again`], {
      cause: error,
    });
  }
}

/** Start to check files: what is wrong with weights, and with all others, each as soon as it is known. */
function startFileChecks(
  source: BundleSource,
  files: ReadonlyMap<string, FileEntry>,
  { onProgress, ...options }: CheckOptions,
): { readonly small: Promise<ReadonlyMap<string, string>>; readonly weights: Promise<ReadonlyMap<string, string>> } {
  const problems = new Map<string, string>();
  const small = new Map<string, FileEntry>();
  const weights = new Map<string, FileEntry>();
  for (const [name, entry] of files) {
    if (!isPlainName(name)) {
      problems.set(name, `${JSON.stringify(name)} is not a plain file name and could leave the folder`);
    } else {
      (name.endsWith(WEIGHTS_SUFFIX) ? weights : small).set(name, entry);
    }
  }
  const hashed = bytesOf(small);
  if (hashed > MAX_HASHED_BYTES) {
    problems.set("", `files lists ${hashed} bytes beside the weights, more than any bundle has`);
    return { small: Promise.resolve(problems), weights: Promise.resolve(new Map()) };
  }
  const total = hashed + bytesOf(weights);
  let done = 0;
  const onBytes = (bytes: number): void => {
    done += bytes;
    onProgress?.({ step: source.isLocal ? "hash" : "download", done, total });
  };
  const transfer = { ...options, onBytes };
  const checkingWeights = source.check(weights, transfer);
  // If something else fails first, nobody waits for it.
  checkingWeights.catch(() => {});
  return {
    small: source.check(small, transfer).then((found) => new Map([...problems, ...found])),
    weights: checkingWeights,
  };
}

function bytesOf(files: ReadonlyMap<string, FileEntry>): number {
  return [...files.values()].reduce((sum, { bytes }) => sum + Math.max(0, bytes), 0);
}

async function findGraphProblems(
  source: BundleSource,
  manifest: Manifest,
  damaged: ReadonlyMap<string, string>,
): Promise<string[]> {
  const scans = new Map(
    manifest.graphs.map((graph) => {
      const weights = weightsFileOf(manifest, graph);
      return [JSON.stringify([graph.file, graph.opDomains, weights]), { graph, weights }];
    }),
  );
  const sizeOf = (name: string): number => manifest.files.get(name)?.bytes ?? 0;
  const total = [...scans.values()].reduce((sum, { graph }) => sum + sizeOf(graph.file), 0);
  if (total > MAX_GRAPH_BYTES) {
    return [`its graphs have ${total} bytes, more than ${MAX_GRAPH_BYTES}: export the model again, with its weights apart`];
  }
  const problems: string[] = [];
  for (const { graph, weights } of scans.values()) {
    if (!damaged.has(graph.file)) {
      const content = await source.read(graph.file);
      const found = scanGraph(content, { name: weights, bytes: sizeOf(weights) }, graph.opDomains);
      problems.push(...found.map((problem) => `${graph.file} ${problem}`));
    }
  }
  return problems;
}

/** The content of measurements.json, undefined if the bundle has none; what is wrong goes to `problems`. */
async function openMeasurements(
  source: BundleSource,
  digest: string,
  problems: string[],
): Promise<Measurements | undefined> {
  try {
    const content = await source.readMeasurements(MAX_MANIFEST_BYTES);
    if (content === undefined) {
      return undefined;
    }
    const noted: string[] = [];
    const measurements = readMeasurements(new Fields(parseFile(source.name, MEASUREMENTS_FILE, content), "", noted));
    problems.push(...noted.map((problem) => `${MEASUREMENTS_FILE}: ${problem}`));
    if (noted.length === 0 && measurements.manifestSha256 !== digest) {
      problems.push(
        `${MEASUREMENTS_FILE} belongs to another manifest.json, by its sha256: copy both from the same bundle, or remove ` +
          MEASUREMENTS_FILE,
      );
    }
    return measurements;
  } catch (error) {
    if (!(error instanceof BundleError)) {
      throw error;
    }
    problems.push(...error.problems);
    return undefined;
  }
}
