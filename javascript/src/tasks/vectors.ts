/** What follows the graph for dense vectors: truncate, normalize and quantize, as `SentenceTransformer.encode` does. */

import { InputError } from "../errors.js";
import { checkCount, describe } from "../inputs.js";
import { normalize } from "../similarity.js";
import type { EmbeddingSection } from "./task.js";

const PRECISIONS = ["float32", "int8", "uint8", "binary", "ubinary"] as const;
export type Precision = (typeof PRECISIONS)[number];

/** The arrays of a precision: the binary ones have a bit for each dimension. */
export interface VectorTypes {
  readonly float32: Float32Array;
  readonly int8: Int8Array;
  readonly uint8: Uint8Array;
  readonly binary: Int8Array;
  readonly ubinary: Uint8Array;
}

/** Smallest and largest value of each dimension. */
export type Ranges = readonly [ArrayLike<number>, ArrayLike<number>];

export interface VectorOptions<P extends Precision> {
  /** "float32"; "int8" or "uint8", which need ranges; "binary" or "ubinary", one bit for each dimension. */
  readonly precision?: P | undefined;
  /** Smallest and largest value of each dimension, for "int8" and "uint8"; by default those of the bundle. */
  readonly ranges?: Ranges | undefined;
  /** Normalize each vector to unit length. */
  readonly normalize?: boolean | undefined;
  /** Keep only the first dimensions, without normalizing again. */
  readonly truncateDim?: number | undefined;
}

/** A function from a row of the graph's output to the result. */
export type PostProcess<P extends Precision> = (row: Float32Array) => VectorTypes[P];

/** The dimensions of results: the caller's choice, the bundle's default, or all. */
export function dimensionOf(section: EmbeddingSection, truncateDim?: number): number {
  return Math.min(checkCount(truncateDim, "truncateDim") ?? section.truncateDim ?? section.dimension, section.dimension);
}

/** Check the options of a call against the model, and return what follows the graph. */
export function postProcess<P extends Precision>(
  section: EmbeddingSection,
  options: VectorOptions<P>,
): PostProcess<P> {
  const { precision = "float32" as P, normalize: normalizes = false } = options;
  if (!PRECISIONS.includes(precision)) {
    throw new InputError(`precision ${describe(precision)} is not one of ${PRECISIONS.join(", ")}`);
  }
  if (typeof normalizes !== "boolean") {
    throw new InputError(`normalize must be true or false, got ${describe(normalizes)}`);
  }
  const dimension = dimensionOf(section, options.truncateDim);
  const finish = quantizer(precision, () => rangesFor(section, dimension, normalizes, precision, options.ranges));
  return (row) => {
    const vector = row.slice(0, dimension);
    return finish(normalizes ? normalize(vector) : vector);
  };
}

function quantizer<P extends Precision>(precision: P, ranges: () => Ranges): PostProcess<P> {
  const quantizers: { readonly [Q in Precision]: () => PostProcess<Q> } = {
    float32: () => (vector) => vector,
    int8: () => {
      const levels = levelsIn(ranges());
      return (vector) => Int8Array.from(levels(vector), (level) => level - 128);
    },
    uint8: () => {
      const levels = levelsIn(ranges());
      return (vector) => Uint8Array.from(levels(vector));
    },
    // int8 is the unsigned byte less 128.
    binary: () => (vector) => Int8Array.from(packBits(vector), (byte) => byte - 128),
    ubinary: () => packBits,
  };
  return quantizers[precision]();
}

/** The level of each value, 0 to 255, computed in float32 as NumPy does. */
function levelsIn([least, most]: Ranges): (vector: Float32Array) => number[] {
  const { fround } = Math;
  const starts = Float32Array.from(least);
  const steps = Float32Array.from(most, (value, place) => fround(fround(value) - starts[place]) / 255).map((step) => step || 1);
  return (vector) =>
    Array.from(vector, (value, place) => {
      const level = Math.floor(fround(fround(value - starts[place]) / steps[place]));
      return Math.min(255, Math.max(0, level));
    });
}

function packBits(vector: Float32Array): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(vector.length / 8));
  vector.forEach((value, place) => {
    if (value > 0) {
      bytes[place >> 3] |= 0x80 >> (place & 7);
    }
  });
  return bytes;
}

function rangesFor(
  section: EmbeddingSection,
  dimension: number,
  normalizes: boolean,
  precision: Precision,
  given: Ranges | undefined,
): Ranges {
  // The bundle's ranges were taken from whole vectors as the graph gives them.
  const hasOwn = dimension === section.dimension && (section.normalized || !normalizes);
  const ranges = given ?? (hasOwn ? section.ranges : undefined);
  if (ranges === undefined) {
    throw new InputError(
      `precision "${precision}" needs ranges, the smallest and largest value of each dimension, as two arrays of ` +
        `${dimension} numbers: take them from vectors of your own texts`,
    );
  }
  const isValid = (values: ArrayLike<number>): boolean =>
    values.length === dimension && Array.from(values).every((value) => Number.isFinite(value));
  if (ranges.length !== 2 || !ranges.every(isValid)) {
    throw new InputError(`ranges must be two arrays of ${dimension} finite numbers`);
  }
  return ranges;
}
