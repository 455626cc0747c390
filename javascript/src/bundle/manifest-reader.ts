/** Read a manifest, noting every problem: fields of the wrong type, and fields that disagree. */

import { isTask, type ReadSection, readSection, type Task, TASK_NAMES, TASKS } from "../tasks/task.js";
import { Fields } from "./fields.js";
import type { JsonValue } from "./json.js";
import {
  FORMAT_VERSION,
  type FurtherPrecision,
  type Graph,
  GRAPH_INPUTS,
  GRAPH_SUFFIX,
  type Manifest,
  OP_DOMAINS,
  precisionsOf,
  PROBES_FILE,
  type Routing,
  type TensorSpec,
  type TokenizerSpec,
  tokenizersOf,
  WEIGHTS_SUFFIX,
} from "./manifest.js";
import { readLoss, readVerifications } from "./quality.js";

const MAX_INT32 = 2 ** 31 - 1;
// Every route is opened with the model; published ones have two.
const MAX_ROUTES = 8;
// A row is made whole; the widest, of sparse encoders, have 250,002 columns.
const MAX_WIDTH = 2 ** 20;

/** What could be read of a manifest whose task or section may be unknown. */
interface Draft extends Omit<Manifest, "task" | "section" | "width"> {
  readonly task: Task | undefined;
  readonly outputs: ReadSection | undefined;
}

/** A manifest, undefined if it has problems, and the files that it lists in any case. */
export interface ReadManifest {
  readonly manifest: Manifest | undefined;
  readonly files: Manifest["files"];
  readonly problems: readonly string[];
}

/** Turn parsed JSON into a manifest, or into every problem it has. */
export function readManifest(value: JsonValue): ReadManifest {
  const noted: string[] = [];
  const top = new Fields(value, "", noted);
  const formatVersion = top.integer("format_version");
  const isKnown = noted.length > 0 || formatVersion === FORMAT_VERSION;
  const name = top.string("task");
  const task = isTask(name) ? name : undefined;
  const manifest: Draft = {
    formatVersion,
    task,
    outputs: readOutputs(top, task),
    source: readSource(top.child("source")),
    graphs: top.children("graphs").map(readGraph),
    tokenizer: readTokenizer(top.child("tokenizer")),
    prompts: top.stringMap("prompts"),
    defaultPromptName: top.optionalString("default_prompt_name"),
    ...readQuality(top),
    producer: top.stringMap("producer"),
    files: top.childMap("files", (entry) => ({ bytes: entry.integer("bytes"), sha256: entry.string("sha256") })),
    routing: top.optional("routing", (fields, key) => readRouting(fields.child(key))),
    furtherPrecisions: top.optional("further_precisions", (fields, key) => fields.childMap(key, readPrecision)) ?? new Map(),
  };
  // Another version may shape its fields differently, so their shape says nothing.
  const problems = isKnown ? [...noted] : [unknownVersion(formatVersion)];
  if (noted.length === 0) {
    problems.push(...inconsistencies(manifest, name));
  }
  const { outputs, ...rest } = manifest;
  const usable = problems.length === 0 && task !== undefined && outputs !== undefined;
  return {
    manifest: usable ? { ...rest, task, section: outputs.section, width: outputs.width } : undefined,
    files: manifest.files,
    problems,
  };
}

function unknownVersion(version: number): string {
  const advice = version > FORMAT_VERSION ? "upgrade monograph-runtime" : "export the model again";
  return `format_version ${version} is not known to this release, which reads ${FORMAT_VERSION}: ${advice}`;
}

function readOutputs(top: Fields, task: Task | undefined): ReadSection | undefined {
  if (task === undefined) {
    return undefined;
  }
  for (const other of TASK_NAMES) {
    if (other !== task && top.has(other)) {
      top.problems.push(`${other} is there, and the task is ${JSON.stringify(task)}`);
    }
  }
  if (!top.has(task)) {
    top.problems.push(`${task} is missing`);
    return undefined;
  }
  return readSection(task, top.child(task));
}

function readSource(fields: Fields): Manifest["source"] {
  fields.stringMap("sha256");
  return {
    name: fields.string("name"),
    revision: fields.optionalString("revision"),
    license: fields.optionalString("license"),
  };
}

function readGraph(fields: Fields): Graph {
  const parts = fields.optional("parts", (one, key) => one.integerMap(key)) ?? new Map<string, number>();
  if ([...parts.values()].some((size) => size < 0 || size >= 2 ** 63)) {
    fields.problems.push(`${fields.path("parts")} has a size that no file has`);
  }
  return {
    file: fields.string("file"),
    devices: fields.strings("devices"),
    precision: fields.string("precision"),
    opset: fields.integer("opset"),
    inputs: fields.childMap("inputs", readTensor),
    outputs: fields.childMap("outputs", readTensor),
    opDomains: fields.strings("op_domains"),
    maxBatchSize: fields.optionalInteger("max_batch_size"),
    route: fields.optionalString("route"),
    weightsBytes: fields.optionalInteger("weights_bytes"),
  };
}

function readTensor(fields: Fields): TensorSpec {
  return { dtype: fields.string("dtype"), shape: fields.shape("shape") };
}

function readTokenizer(fields: Fields): TokenizerSpec {
  return {
    file: fields.string("file"),
    maxLength: fields.optionalInteger("max_length"),
    paddingSide: fields.string("padding_side"),
    padId: fields.integer("pad_id"),
    vocabularySize: fields.integer("vocabulary_size"),
    specialIds: fields.optional("special_ids", (one, key) => one.integers(key)) ?? [],
    minLength: fields.optionalInteger("min_length") ?? 0,
  };
}

function readRouting(fields: Fields): Routing {
  return {
    tokenizers: fields.childMap("tokenizers", readTokenizer),
    tasks: fields.stringMap("tasks"),
    default: fields.optionalString("default"),
  };
}

function readPrecision(fields: Fields): FurtherPrecision {
  return { probes: fields.string("probes"), ...readQuality(fields) };
}

function readQuality(top: Fields): Pick<Manifest, "verifications" | "loss"> {
  const quality = top.child("quality");
  const loss = readLoss(quality, top);
  return { loss, verifications: readVerifications(quality) };
}

/** What is wrong between fields that are each well formed. */
function* inconsistencies(manifest: Draft, taskName: string): Generator<string> {
  const { task, outputs } = manifest;
  const width = outputs?.width ?? 0;
  if (task === undefined || outputs === undefined) {
    yield `task ${JSON.stringify(taskName)} is not one of ${TASK_NAMES.join(", ")}`;
  } else {
    yield* outputs.problems().map((problem) => `${task}.${problem}`);
    if (width > MAX_WIDTH) {
      yield `${task}.${TASKS[task].widthField} must be at most ${MAX_WIDTH}`;
    }
  }
  yield* tokenizerProblems("tokenizer", manifest.tokenizer);
  if (manifest.defaultPromptName !== undefined && !manifest.prompts.has(manifest.defaultPromptName)) {
    yield `default_prompt_name ${JSON.stringify(manifest.defaultPromptName)} is not among prompts`;
  }
  if (manifest.graphs.length === 0) {
    yield "graphs is empty";
  }
  for (const [position, graph] of manifest.graphs.entries()) {
    for (const problem of graphProblems(graph, width, task)) {
      yield `graphs[${position}].${problem}`;
    }
  }
  yield* precisionProblems(manifest);
  yield* routingProblems(manifest);
  yield* unlistedFiles(manifest);
}

function* graphProblems(graph: Graph, width: number, task: Task | undefined): Generator<string> {
  const unknown = graph.opDomains.filter((domain) => !OP_DOMAINS.includes(domain));
  if (unknown.length > 0) {
    yield `op_domains has the unknown ${unknown.sort().join(", ")}`;
  }
  if (!graph.inputs.has("input_ids")) {
    yield "inputs must have input_ids";
  }
  const foreign = [...graph.inputs.keys()].filter((name) => !(GRAPH_INPUTS as readonly string[]).includes(name));
  if (foreign.length > 0) {
    yield `inputs may have ${GRAPH_INPUTS.join(", ")}, not ${foreign.sort().join(", ")}`;
  }
  if (graph.maxBatchSize !== undefined && graph.maxBatchSize < 1) {
    yield "max_batch_size must be at least 1";
  }
  if (graph.weightsBytes !== undefined && (graph.weightsBytes < 0 || graph.weightsBytes >= 2 ** 63)) {
    yield "weights_bytes is not a size of weights";
  }
  if (graph.outputs.size !== 1) {
    yield "outputs must name one output";
  }
  for (const [name, output] of graph.outputs) {
    if (task !== undefined && width !== 0 && output.shape.at(-1) !== width) {
      const stated = `${task}.${TASKS[task].widthField}`;
      yield `outputs.${name} has the shape [${output.shape.join(", ")}], and ${stated} is ${width}`;
    }
  }
}

function* tokenizerProblems(name: string, tokenizer: TokenizerSpec): Generator<string> {
  if (tokenizer.paddingSide !== "right") {
    yield `${name}.padding_side ${JSON.stringify(tokenizer.paddingSide)} is not "right"`;
  }
  const { vocabularySize: size, maxLength } = tokenizer;
  if (size > MAX_INT32) {
    yield `${name}.vocabulary_size is not a size of a vocabulary`;
    return;
  }
  if (maxLength !== undefined && maxLength < 1) {
    yield `${name}.max_length must be at least 1`;
  }
  if (size < 1) {
    yield `${name}.vocabulary_size must be at least 1`;
  }
  if (tokenizer.minLength !== 0 && tokenizer.minLength !== 1) {
    yield `${name}.min_length must be 0 or 1`;
  }
  const isId = (id: number): boolean => id >= 0 && id < Math.max(1, size);
  if (!isId(tokenizer.padId)) {
    yield `${name}.pad_id must be at least 0 and below vocabulary_size`;
  }
  if (!tokenizer.specialIds.every(isId)) {
    yield `${name}.special_ids must be at least 0 and below vocabulary_size`;
  }
}

/** Precisions after the first without probes and quality of their own, and these without a graph. */
function* precisionProblems(manifest: Draft): Generator<string> {
  const further = precisionsOf(manifest).slice(1);
  for (const precision of further) {
    if (!manifest.furtherPrecisions.has(precision)) {
      yield `graphs have the precision ${JSON.stringify(precision)}, which further_precisions does not have`;
    }
  }
  for (const precision of manifest.furtherPrecisions.keys()) {
    if (!further.includes(precision)) {
      yield `further_precisions has ${JSON.stringify(precision)}, which is not the precision of a graph after the first`;
    }
  }
}

function* routingProblems(manifest: Draft): Generator<string> {
  const { routing, task } = manifest;
  if (routing !== undefined) {
    if (task !== undefined && !TASKS[task].hasRoutes) {
      yield `routing is there, and the task is ${JSON.stringify(task)}`;
    }
    yield* problemsWithinRouting(routing);
    yield* problemsWithFirstGraph(manifest, routing);
  }
  const graphRoutes = new Set(manifest.graphs.map((graph) => graph.route));
  const tokenizerRoutes = new Set(tokenizersOf(manifest).keys());
  const equal =
    graphRoutes.size === tokenizerRoutes.size && [...graphRoutes].every((route) => tokenizerRoutes.has(route));
  if (graphRoutes.size > 0 && tokenizerRoutes.size > 0 && !equal) {
    yield `graphs are of the routes ${quoteRoutes(graphRoutes)}, and tokenizers of ${quoteRoutes(tokenizerRoutes)}`;
  }
}

function* problemsWithinRouting(routing: Routing): Generator<string> {
  for (const [route, tokenizer] of routing.tokenizers) {
    yield* tokenizerProblems(`routing.tokenizers.${route}`, tokenizer);
  }
  if (routing.tokenizers.size < 1 || routing.tokenizers.size > MAX_ROUTES) {
    yield `routing.tokenizers must have 1 to ${MAX_ROUTES} routes`;
  }
  const named = new Set([...routing.tasks.values(), ...(routing.default === undefined ? [] : [routing.default])]);
  for (const route of named) {
    if (!routing.tokenizers.has(route)) {
      yield `routing has the unknown route ${JSON.stringify(route)}`;
    }
  }
}

function* problemsWithFirstGraph(manifest: Draft, routing: Routing): Generator<string> {
  const first = manifest.graphs.at(0);
  if (first !== undefined) {
    if (routing.default !== undefined && routing.default !== first.route) {
      const [stated, actual] = [routing.default, first.route ?? null].map((route) => JSON.stringify(route));
      yield `routing.default ${stated} is not the route of the first graph, ${actual}`;
    }
    if (!isEqual(routing.tokenizers.get(first.route ?? ""), manifest.tokenizer)) {
      yield "tokenizer is not that of the first graph's route";
    }
  }
  if (new Set(manifest.graphs.map((graph) => graph.precision)).size > 1) {
    yield "the graphs of the routes are of different precisions";
  }
}

function isEqual(one: TokenizerSpec | undefined, other: TokenizerSpec): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function quoteRoutes(routes: ReadonlySet<string | undefined>): string {
  return [...routes].map((route) => (route === undefined ? "none" : JSON.stringify(route))).sort().join(", ");
}

function* unlistedFiles(manifest: Draft): Generator<string> {
  const { files } = manifest;
  const tokenizers = new Set([manifest.tokenizer, ...tokenizersOf(manifest).values()].map(({ file }) => file));
  const graphs = manifest.graphs.map(({ file }) => file);
  const probes = [...new Set([...manifest.furtherPrecisions.values()].map((further) => further.probes))].sort();
  for (const name of [...graphs, ...[...tokenizers].sort(), PROBES_FILE, ...probes]) {
    if (!files.has(name)) {
      yield `${name} is used but not listed in files`;
    }
  }
  for (const name of [...new Set(graphs)].sort()) {
    // By other names engines take a file for another format, or its hash is not compared.
    if (!name.endsWith(GRAPH_SUFFIX)) {
      yield `the graph ${JSON.stringify(name)} is not named *${GRAPH_SUFFIX}`;
    }
  }
  for (const name of [...tokenizers].sort()) {
    if (name.endsWith(WEIGHTS_SUFFIX)) {
      yield `the tokenizer ${JSON.stringify(name)} is named as weights are`;
    }
  }
  for (const name of probes) {
    if (name.endsWith(WEIGHTS_SUFFIX)) {
      yield `the probes ${JSON.stringify(name)} are named as weights are`;
    }
  }
  if (![...files.keys()].some((name) => name.endsWith(WEIGHTS_SUFFIX))) {
    yield `files lists no weights (*${WEIGHTS_SUFFIX})`;
  }
}
