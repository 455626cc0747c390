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

/** Check the types of what the export decided. */
export function checkQuality(quality: Fields, manifest: Fields): void {
  quality.string("reference");
  quality.optionalString("encoder_file");
  quality.optional("vocabulary", (one, key) => checkVocabulary(one.child(key)));
  if (manifest.has("compression")) {
    checkCompression(manifest.child("compression"));
  } else if (quality.has("compression")) {
    const compression = quality.child("compression");
    checkCompression(compression);
    checkAgreement(compression.child("agreement"));
  }
}

function checkCompression(fields: Fields): void {
  fields.string("table");
  fields.numberMap("limits");
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
}

const VECTOR_FIGURES = ["mean_cosine", "percentile_1_cosine", "worst_cosine", "neighbour_agreement"];
const SCORE_FIGURES = ["mean_difference", "worst_difference"];

/** Check an agreement of vectors, or of scores if it has pairs. */
function checkAgreement(fields: Fields): void {
  const isOfPairs = fields.has("pairs");
  fields.integer(isOfPairs ? "pairs" : "texts");
  fields.number("spearman");
  for (const name of isOfPairs ? SCORE_FIGURES : VECTOR_FIGURES) {
    fields.number(name);
  }
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

/** The content of a measurements.json: results of the engines, and the hash of the manifest that they belong to. */
export interface Measurements {
  readonly manifestSha256: string;
  /** Of the first precision. */
  readonly verifications: readonly Verification[];
  readonly furtherPrecisions: ReadonlyMap<string, readonly Verification[]>;
}

/** Read a measurements.json. */
export function readMeasurements(fields: Fields): Measurements {
  return {
    manifestSha256: fields.string("manifest_sha256"),
    verifications: readMeasured(fields),
    furtherPrecisions: fields.optional("further_precisions", (one, key) => one.childMap(key, readMeasured)) ?? new Map(),
  };
}

function readMeasured(fields: Fields): readonly Verification[] {
  fields.optional("agreement", (one, key) => checkAgreement(one.child(key)));
  fields.optional("calibration_agreement", (one, key) => one.numberMap(key));
  return readVerifications(fields);
}
