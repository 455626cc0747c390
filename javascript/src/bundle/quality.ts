/** The manifest's `quality` and `compression`, and measurements.json: checked whole, read as far as a reader uses it. */

import type { Fields } from "./fields.js";
import type { Verification } from "./manifest.js";

/** Read the verification results, and check the types of all their fields. */
export function readVerifications(fields: Fields): readonly Verification[] {
  fields.optional("not_run", (one, key) => one.stringMap(key));
  return fields.children("verifications").map((result) => {
    const tolerance = result.child("tolerance");
    tolerance.optional("max_abs_difference", (one, key) => one.number(key));
    tolerance.optional("min_cosine", (one, key) => one.number(key));
    tolerance.optional("exact", (one, key) => one.boolean(key));
    result.integer("probes");
    checkDeviation(result);
    for (const measured of result.optional("cases", (one, key) => one.children(key)) ?? []) {
      measured.string("case");
      measured.integer("worst_tokens");
      checkDeviation(measured);
    }
    return {
      engine: result.string("engine"),
      version: result.string("version"),
      device: result.string("device"),
      computeDtype: result.string("compute_dtype"),
      passed: result.boolean("passed"),
      reason: result.string("reason"),
    };
  });
}

function checkDeviation(fields: Fields): void {
  fields.number("max_abs_difference");
  fields.optional("worst_cosine", (one, key) => one.number(key));
}

/** Figures of a loss by their names: an agreement that was measured, or the limits that the export set for it. */
export type Figures = ReadonlyMap<string, number>;

/** What a bundle states of the loss of a precision. */
export interface Loss {
  /** Undefined if nothing was compressed. */
  readonly figures: Figures | undefined;
  /** Whether the encoder was an ONNX file, of whose loss nothing is known. */
  readonly isOfFile: boolean;
}

/** Read what the export decided, as far as it says what the loss is; the types of all fields are checked. */
export function readLoss(quality: Fields, manifest: Fields): Loss {
  quality.string("reference");
  const isOfFile = quality.optionalString("encoder_file") !== undefined;
  quality.optional("vocabulary", (one, key) => checkVocabulary(one.child(key)));
  if (manifest.has("compression")) {
    return { figures: readLimits(manifest.child("compression")), isOfFile };
  }
  if (quality.has("compression")) {
    const compression = quality.child("compression");
    readLimits(compression);
    return { figures: readAgreement(compression.child("agreement")), isOfFile };
  }
  return { figures: undefined, isOfFile };
}

/** The limits of a compression. */
function readLimits(fields: Fields): Figures {
  fields.string("table");
  const limits = fields.numberMap("limits");
  fields.optional("layers", (one, key) => {
    const layers = one.child(key);
    layers.string("precision");
    layers.optionalString("calibration");
    layers.optionalInteger("calibration_inputs");
    layers.optional("calibration_agreement", (inner, name) => inner.numberMap(name));
    layers.optional("float32_inputs", (inner, name) => inner.strings(name));
    layers.optional("smoothing_strength", (inner, name) => inner.numberMap(name));
    layers.optional("reduce_range", (inner, name) => inner.boolean(name));
  });
  return limits;
}

const VECTOR_FIGURES = ["mean_cosine", "percentile_1_cosine", "worst_cosine", "neighbour_agreement"];
// Of sparse vectors.
const ACTIVE_OVERLAP = "active_overlap";
const SCORE_FIGURES = ["mean_difference", "worst_difference"];

/** Read an agreement of vectors, or of scores if it has pairs. */
function readAgreement(fields: Fields): Figures {
  const isOfPairs = fields.has("pairs");
  fields.integer(isOfPairs ? "pairs" : "texts");
  const names = ["spearman", ...(isOfPairs ? SCORE_FIGURES : VECTOR_FIGURES)];
  const figures = new Map(names.map((name) => [name, fields.number(name)]));
  const overlap = fields.optional(ACTIVE_OVERLAP, (one, key) => one.number(key));
  return overlap === undefined ? figures : figures.set(ACTIVE_OVERLAP, overlap);
}

function checkVocabulary(fields: Fields): void {
  for (const name of ["tokens", "original_tokens", "same_tokens", "same_vectors"]) {
    fields.integer(name);
  }
  fields.number("max_abs_difference");
  fields.strings("scripts");
  fields.strings("character_scripts");
  fields.optionalString("corpus");
  fields.optional("coverage", (one, key) => {
    const coverage = one.child(key);
    coverage.string("name");
    coverage.integer("texts");
    for (const name of ["unchanged", "growth", "unknown", "unknown_before"]) {
      coverage.number(name);
    }
  });
}

/** What engines measured of the graphs of a precision. */
export interface Measured {
  readonly verifications: readonly Verification[];
  /** How far a compressed model is from the original. */
  readonly agreement: Figures | undefined;
}

/** The content of a measurements.json: results of the engines, and the hash of the manifest that they belong to. */
export interface Measurements {
  readonly manifestSha256: string;
  /** Of the first precision. */
  readonly first: Measured;
  readonly furtherPrecisions: ReadonlyMap<string, Measured>;
}

/** Read a measurements.json. */
export function readMeasurements(fields: Fields): Measurements {
  return {
    manifestSha256: fields.string("manifest_sha256"),
    first: readMeasured(fields),
    furtherPrecisions: fields.optional("further_precisions", (one, key) => one.childMap(key, readMeasured)) ?? new Map(),
  };
}

function readMeasured(fields: Fields): Measured {
  const agreement = fields.optional("agreement", (one, key) => readAgreement(one.child(key)));
  fields.optional("calibration_agreement", (one, key) => one.numberMap(key));
  return { verifications: readVerifications(fields), agreement };
}

/** What the manifest has of a precision, with what was measured of it. */
export function withMeasured<T extends { readonly loss: Loss }>(stated: T, measured: Measured | undefined): T {
  const { loss } = stated;
  const figures = loss.figures === undefined ? undefined : (measured?.agreement ?? loss.figures);
  return { ...stated, verifications: measured?.verifications ?? [], loss: { ...loss, figures } };
}
