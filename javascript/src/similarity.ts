/** The four similarity functions of Sentence Transformers; distances are negated, so that larger is more similar. */

import { InputError } from "./errors.js";

export const SIMILARITIES = ["cosine", "dot", "euclidean", "manhattan"] as const;
export type Similarity = (typeof SIMILARITIES)[number];
/** A vector, for example of an index that stores plain arrays. */
export type Vector = ArrayLike<number>;

/** The smallest norm that is divided by, as in torch.nn.functional.normalize. */
export const MIN_NORM = 1e-12;

export function isSimilarity(name: string): name is Similarity {
  return (SIMILARITIES as readonly string[]).includes(name);
}

/** The similarity of each vector of `first` [n, d] to each of `second` [m, d], n arrays of m values. */
export function similarity(name: Similarity, first: readonly Vector[], second: readonly Vector[]): Float32Array[] {
  const compare = prepare(name, second);
  return first.map((vector) => Float32Array.from(compare(vector)));
}

/** The similarity of vector i of `first` to vector i of `second`, [n]. */
export function similarityPairwise(name: Similarity, first: readonly Vector[], second: readonly Vector[]): Float32Array {
  if (first.length !== second.length) {
    throw new InputError(`pairwise similarity needs as many vectors on both sides, got ${first.length} and ${second.length}`);
  }
  return Float32Array.from(first, (vector, position) => prepare(name, [second[position]])(vector)[0]);
}

/** A vector at unit length; zeros stay zeros. */
export function normalize(vector: Vector): Float32Array {
  const norm = Math.max(Math.sqrt(dot(vector, vector)), MIN_NORM);
  return Float32Array.from(vector, (value) => value / norm);
}

function prepare(name: Similarity, others: readonly Vector[]): (vector: Vector) => number[] {
  const compare: (one: Vector, other: Vector) => number =
    name === "euclidean" ? negatedEuclidean : name === "manhattan" ? negatedManhattan : dot;
  const prepared = name === "cosine" ? others.map(normalize) : others;
  return (vector) => {
    const one = name === "cosine" ? normalize(vector) : vector;
    return prepared.map((other) => {
      checkDimensions(one, other);
      return compare(one, other);
    });
  };
}

function checkDimensions(one: Vector, other: Vector): void {
  if (one.length !== other.length) {
    throw new InputError(`vectors of ${one.length} and ${other.length} dimensions cannot be compared`);
  }
}

/** The product of two vectors, summed in float64. */
export function dot(one: Vector, other: Vector): number {
  let sum = 0;
  for (let place = 0; place < one.length; place++) {
    sum += one[place] * other[place];
  }
  return sum;
}

function negatedEuclidean(one: Vector, other: Vector): number {
  let sum = 0;
  for (let place = 0; place < one.length; place++) {
    sum += (one[place] - other[place]) ** 2;
  }
  return -Math.sqrt(sum);
}

function negatedManhattan(one: Vector, other: Vector): number {
  let sum = 0;
  for (let place = 0; place < one.length; place++) {
    sum += Math.abs(one[place] - other[place]);
  }
  return -sum;
}
