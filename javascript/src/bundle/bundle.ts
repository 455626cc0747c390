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
import { type Measurements, readMeasurements } from "./quality.js";
import type { BundleSource, TransferOptions } from "./source.js";

// What is hashed at every opening is bounded: more than all graphs, tokenizers and probes of a bundle have.
const MAX_HASHED_BYTES = 2 ** 30;

/** A bundle whose files have been checked. */
export class Bundle {
  constructor(
    readonly source: BundleSource,
    readonly manifest: Manifest,
    readonly manifestSha256: string,
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
      furtherPrecisions: new Map(),
    };
    return new Bundle(this.source, manifest, this.manifestSha256, further?.probes ?? this.probesFile, this.precisions);
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

/** Read and check a bundle; throws `BundleError` with every problem. */
export async function openBundle(source: BundleSource, options: TransferOptions): Promise<Bundle> {
  const content = await source.readManifest(options.signal);
  if (content.length > MAX_MANIFEST_BYTES) {
    throw new BundleError(source.name, [`${MANIFEST_FILE} has more than ${MAX_MANIFEST_BYTES} bytes`]);
  }
  const read = readManifest(parseFile(source.name, MANIFEST_FILE, content));
  const { manifest } = read;
  const problems = [...read.problems];
  if (manifest === undefined) {
    if (source.isLocal) {
      problems.push(...new Set((await findFileProblems(source, read.files, options)).values()));
    }
    throw new BundleError(source.name, problems);
  }
  const digest = await sha256(content);
  const fileProblems = await findFileProblems(source, manifest.files, options);
  const graphProblems = await findGraphProblems(source, manifest, fileProblems);
  const measurements = await openMeasurements(source, digest, problems);
  problems.push(...new Set(fileProblems.values()), ...graphProblems);
  if (problems.length > 0) {
    source.release();
    throw new BundleError(source.name, problems);
  }
  return new Bundle(source, measurements === undefined ? manifest : withMeasurements(manifest, measurements), digest);
}

function withMeasurements(manifest: Manifest, { verifications, furtherPrecisions }: Measurements): Manifest {
  const further = [...manifest.furtherPrecisions].map(
    ([precision, entry]) => [precision, { ...entry, verifications: furtherPrecisions.get(precision) ?? [] }] as const,
  );
  return { ...manifest, verifications, furtherPrecisions: new Map(further) };
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

async function findFileProblems(
  source: BundleSource,
  files: ReadonlyMap<string, FileEntry>,
  options: TransferOptions,
): Promise<ReadonlyMap<string, string>> {
  const problems = new Map<string, string>();
  const usable = new Map<string, FileEntry>();
  let hashed = 0;
  for (const [name, entry] of files) {
    if (!isPlainName(name)) {
      problems.set(name, `${JSON.stringify(name)} is not a plain file name and could leave the folder`);
    } else {
      usable.set(name, entry);
      hashed += name.endsWith(WEIGHTS_SUFFIX) ? 0 : Math.max(0, entry.bytes);
    }
  }
  if (hashed > MAX_HASHED_BYTES) {
    return problems.set("", `files lists ${hashed} bytes beside the weights, more than any bundle has`);
  }
  for (const [name, problem] of await source.check(usable, options)) {
    problems.set(name, problem);
  }
  return problems;
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
