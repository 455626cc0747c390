/** probes.json: the acceptance test in a bundle, texts or pairs with their reference outputs. */

import type { Input } from "../tokenizer/tokenizer.js";
import { decodeBase64 } from "./base64.js";
import { Fields } from "./fields.js";
import type { JsonValue } from "./json.js";

export const MAX_PROBES_BYTES = 2 ** 29;
/** The commas of long texts count. */
export const MAX_PROBES_VALUES = 4_000_000;

const DTYPE = "float32 little-endian";
const MAX_COUNT = 2 ** 31 - 1;
// Values of all vectors, zeros included: 2 GB.
const MAX_VALUES = 2 ** 29;

/** Texts, the tokens of each, and their reference vectors: float32 values in row order, `width` each. */
export interface Probes {
  readonly texts: readonly Input[];
  readonly tokenCounts: readonly number[];
  readonly vectors: Float32Array;
  readonly width: number;
  readonly route: string | undefined;
  readonly prompt: string;
}

/** Read the sets of probes of a parsed file, and note what is wrong with them. */
export function readProbes(value: JsonValue, width: number): { sets: readonly Probes[]; problems: readonly string[] } {
  const problems: string[] = [];
  const top = new Fields(value, "", problems);
  const others = top.optional("others", (fields, key) => fields.children(key)) ?? [];
  const limits = { width, values: MAX_VALUES };
  const sets = [top, ...others].map((fields) => readSet(fields, limits));
  return { sets, problems };
}

/** The columns of every vector, and the number of values that may still be read. */
interface Limits {
  readonly width: number;
  values: number;
}

function readSet(fields: Fields, limits: Limits): Probes {
  const { problems } = fields;
  const noted = problems.length;
  const texts = fields.inputs("texts");
  const tokenCounts = fields.integers("token_counts");
  if (tokenCounts.some((count) => count < 0 || count > MAX_COUNT)) {
    problems.push(`token_counts must lie between 0 and ${MAX_COUNT}`);
  }
  const stored = fields.child("vectors");
  const { vectors, rows, problem } = readVectors(stored, limits);
  if (problem !== undefined) {
    problems.push(`vectors cannot be decoded (${problem})`);
  }
  if (problems.length === noted && (texts.length !== tokenCounts.length || texts.length !== rows || rows === 0)) {
    problems.push("texts, token_counts and vectors differ in number, or are none");
  }
  return {
    texts,
    tokenCounts,
    vectors,
    width: limits.width,
    route: fields.optionalString("route"),
    prompt: fields.optionalString("prompt") ?? "",
  };
}

interface Decoded {
  readonly vectors: Float32Array;
  readonly rows: number;
  readonly problem?: string;
}

function failed(problem: string): Decoded {
  return { vectors: new Float32Array(), rows: 0, problem };
}

function readVectors(stored: Fields, limits: Limits): Decoded {
  const shape = stored.integers("shape");
  const dtype = stored.string("dtype");
  const values = decode(stored, "base64", (view, place) => view.getFloat32(place, true));
  if (dtype !== DTYPE) {
    return failed(`vectors.dtype must be ${JSON.stringify(DTYPE)}`);
  }
  const [rows, columns] = shape;
  if (shape.length !== 2 || rows < 0 || columns < 0) {
    return failed("vectors.shape must be two sizes");
  }
  if (columns !== limits.width) {
    return failed(`${columns} columns, and the graph gives ${limits.width}`);
  }
  limits.values -= rows * columns;
  if (limits.values < 0) {
    return failed(`more than ${MAX_VALUES} values in all`);
  }
  if (values === undefined) {
    return failed("its base64 is not valid");
  }
  if (!values.every(Number.isFinite)) {
    return failed("vectors must be finite");
  }
  if (stored.has("columns")) {
    return unpackSparse(stored, values, rows, columns);
  }
  return values.length === rows * columns
    ? { vectors: Float32Array.from(values), rows }
    : failed(`${values.length} values instead of ${rows} x ${columns}`);
}

/** Vectors from the values that are not 0, their columns, and their number in each row. */
function unpackSparse(stored: Fields, values: readonly number[], rows: number, width: number): Decoded {
  const counts = stored.integers("counts");
  const columns = decode(stored, "columns", (view, place) => view.getInt32(place, true));
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (columns === undefined || counts.length !== rows || counts.some((count) => count < 0)) {
    return failed("counts, columns and values differ in number");
  }
  if (total !== columns.length || total !== values.length) {
    return failed("counts, columns and values differ in number");
  }
  const vectors = new Float32Array(rows * width);
  let place = 0;
  for (const [row, count] of counts.entries()) {
    let previous = -1;
    for (const end = place + count; place < end; place++) {
      const column = columns[place];
      if (column < 0 || column >= width) {
        return failed(`a column lies outside 0 to ${width - 1}`);
      }
      if (column <= previous) {
        return failed("the columns of a row are not in ascending order");
      }
      vectors[row * width + column] = values[place];
      previous = column;
    }
  }
  return { vectors, rows };
}

/** The 4-byte values of a base64 string; undefined if it is not valid. */
function decode(
  stored: Fields,
  key: string,
  read: (view: DataView, place: number) => number,
): readonly number[] | undefined {
  const bytes = decodeBase64(stored.string(key));
  if (bytes === undefined || bytes.length % 4 !== 0) {
    return undefined;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / 4 }, (_, position) => read(view, 4 * position));
}
