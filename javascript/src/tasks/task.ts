/** The three tasks: their sections of the manifest, and how their outputs are compared with a reference. */

import type { Fields } from "../bundle/fields.js";
import type { Figures, Loss } from "../bundle/quality.js";
import { isSimilarity, SIMILARITIES } from "../similarity.js";

export const ACTIVATIONS = ["Identity", "Sigmoid"] as const;
export type Activation = (typeof ACTIVATIONS)[number];

/** Dense vectors. */
export interface EmbeddingSection {
  readonly dimension: number;
  readonly normalized: boolean;
  readonly similarity: string;
  readonly matryoshkaDimensions: readonly number[];
  readonly truncateDim: number | undefined;
  readonly ranges: readonly [readonly number[], readonly number[]] | undefined;
}

/** Scores of pairs: logits, which `activation` maps to scores by default. */
export interface RerankSection {
  readonly numLabels: number;
  readonly activation: string;
  readonly labelNames: readonly string[];
}

/** A weight for each token of a vocabulary, mostly 0. */
export interface SparseSection {
  readonly dimension: number;
  readonly similarity: string;
  readonly maxActiveDims: number | undefined;
}

export interface Sections {
  readonly embedding: EmbeddingSection;
  readonly rerank: RerankSection;
  readonly sparse: SparseSection;
}

export type Task = keyof Sections;
export type Section = Sections[Task];

/** From the least loss to the largest. */
export const QUALITY_LEVELS = ["lossless", "high", "fast"] as const;
export type QualityLevel = (typeof QUALITY_LEVELS)[number];

/** Whether the figures of a loss are within what a level requires; a figure that is absent is not. */
type Bound = (figures: Figures) => boolean;

const atLeast = (name: string, minimum: number): Bound => (figures) => (figures.get(name) ?? NaN) >= minimum;
const atMost = (name: string, maximum: number): Bound => (figures) => (figures.get(name) ?? NaN) <= maximum;

interface TaskReader<S> {
  /** What the manifest calls the number of the output's columns. */
  readonly widthField: string;
  readonly title: string;
  readonly inputs: "texts" | "pairs";
  readonly hasRoutes: boolean;
  /** What the levels before "fast" require, for which the limits of the export suffice. */
  readonly bounds: { readonly [L in Exclude<QualityLevel, "fast">]: readonly Bound[] };
  read(fields: Fields): S;
  problems(section: S): string[];
  width(section: S): number;
}

const MAX_FLOAT32 = 3.4e38;

/** Whether a value is given and below 1. */
function isBelowOne(value: number | undefined): boolean {
  return value !== undefined && value < 1;
}

function similarityProblems(similarity: string): string[] {
  return isSimilarity(similarity)
    ? []
    : [`similarity ${JSON.stringify(similarity)} is not one of ${SIMILARITIES.join(", ")}`];
}

const VECTOR_BOUNDS = {
  lossless: [atLeast("mean_cosine", 0.9999), atLeast("worst_cosine", 0.999)],
  high: [atLeast("mean_cosine", 0.999), atLeast("worst_cosine", 0.99)],
};

const embedding: TaskReader<EmbeddingSection> = {
  widthField: "dimension",
  title: "an embedding model",
  inputs: "texts",
  hasRoutes: true,
  bounds: VECTOR_BOUNDS,
  read: (fields) => ({
    dimension: fields.integer("dimension"),
    normalized: fields.boolean("normalized"),
    similarity: fields.string("similarity"),
    matryoshkaDimensions: fields.integers("matryoshka_dimensions"),
    truncateDim: fields.optionalInteger("truncate_dim"),
    ranges: fields.optional("ranges", (one, key) => one.pairOfNumbers(key)),
  }),
  problems: ({ dimension, similarity, truncateDim, ranges }) => {
    const problems = similarityProblems(similarity);
    if (dimension < 1) {
      problems.push("dimension must be at least 1");
    }
    if (isBelowOne(truncateDim)) {
      problems.push("truncate_dim must be at least 1");
    }
    const fits = (row: readonly number[]): boolean =>
      row.length === dimension && row.every((value) => Math.abs(value) <= MAX_FLOAT32);
    if (ranges !== undefined && !ranges.every(fits)) {
      problems.push(`ranges must be two lists of ${dimension} numbers`);
    }
    return problems;
  },
  width: (section) => section.dimension,
};

const rerank: TaskReader<RerankSection> = {
  widthField: "num_labels",
  title: "a cross-encoder",
  inputs: "pairs",
  hasRoutes: false,
  bounds: {
    lossless: [atLeast("spearman", 0.9999), atMost("worst_difference", 0.01)],
    high: [atLeast("spearman", 0.999), atMost("worst_difference", 0.05)],
  },
  read: (fields) => ({
    numLabels: fields.integer("num_labels"),
    activation: fields.string("activation"),
    labelNames: fields.optional("label_names", (one, key) => one.strings(key)) ?? [],
  }),
  problems: ({ numLabels, activation, labelNames }) => {
    const problems: string[] = [];
    if (numLabels < 1) {
      problems.push("num_labels must be at least 1");
    }
    if (!(ACTIVATIONS as readonly string[]).includes(activation)) {
      problems.push(`activation ${JSON.stringify(activation)} is not one of ${ACTIVATIONS.join(", ")}`);
    }
    if (labelNames.length > 0 && labelNames.length !== numLabels) {
      problems.push(`label_names has ${labelNames.length} names for ${numLabels} labels`);
    }
    return problems;
  },
  width: (section) => section.numLabels,
};

const sparse: TaskReader<SparseSection> = {
  widthField: "dimension",
  title: "a sparse encoder",
  inputs: "texts",
  hasRoutes: true,
  bounds: {
    lossless: [...VECTOR_BOUNDS.lossless, atLeast("active_overlap", 0.99)],
    high: [...VECTOR_BOUNDS.high, atLeast("active_overlap", 0.95)],
  },
  read: (fields) => ({
    dimension: fields.integer("dimension"),
    similarity: fields.string("similarity"),
    maxActiveDims: fields.optionalInteger("max_active_dims"),
  }),
  problems: ({ dimension, similarity, maxActiveDims }) => {
    const problems = similarityProblems(similarity);
    if (dimension < 1) {
      problems.push("dimension must be at least 1");
    }
    if (isBelowOne(maxActiveDims)) {
      problems.push("max_active_dims must be at least 1");
    }
    return problems;
  },
  width: (section) => section.dimension,
};

const READERS = { embedding, rerank, sparse };

/** What is known of a task without its section. */
export const TASKS: { readonly [T in Task]: Pick<TaskReader<Sections[T]>, "widthField" | "title" | "inputs" | "hasRoutes"> } =
  READERS;
export const TASK_NAMES = Object.keys(TASKS) as readonly Task[];

export function isTask(name: string): name is Task {
  return (TASK_NAMES as readonly string[]).includes(name);
}

/** The best level that graphs of a precision reach, by the loss that their bundle states. */
export function levelOf(task: Task, precision: string, { figures, isOfFile }: Loss): QualityLevel {
  if (figures === undefined) {
    return isOfFile && precision !== "fp32" ? "fast" : "lossless";
  }
  const { lossless, high } = READERS[task].bounds;
  const holds = (bounds: readonly Bound[]): boolean => bounds.every((bound) => bound(figures));
  return holds(lossless) ? "lossless" : holds(high) ? "high" : "fast";
}

/** A section, the columns of the graphs' output that it states, and what is wrong with its values. */
export interface ReadSection {
  readonly section: Section;
  readonly width: number;
  problems(): string[];
}

/** Read the section of a task, and note fields of the wrong type. */
export function readSection(task: Task, fields: Fields): ReadSection {
  switch (task) {
    case "embedding":
      return describe(embedding, fields);
    case "rerank":
      return describe(rerank, fields);
    case "sparse":
      return describe(sparse, fields);
  }
}

function describe<S extends Section>(reader: TaskReader<S>, fields: Fields): ReadSection {
  const section = reader.read(fields);
  return { section, width: reader.width(section), problems: () => reader.problems(section) };
}
