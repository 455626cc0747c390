/**
 * Read an ONNX graph before the engine does, and find what it would make the engine read, run or wait for.
 *
 * A graph may read its file of weights and no other, and have operators of the domains that the manifest lists. Its file
 * must be what a serializer writes, with the fields of onnx.proto below: what is not among them is refused.
 */

import { BYTES, countVarints, FIXED32, MessageType, readFields, VARINT, WireFormatError } from "./wire-format.js";

/** Of all graphs of a bundle: weights of more than 1 KB lie outside. */
export const MAX_GRAPH_BYTES = 4 * 2 ** 20;

const MAX_PROBLEMS = 8;
const MAX_QUOTED = 80;
// A graph within an If, within another: exporters write one or two.
const MAX_DEPTH = 8;
const MAX_RANK = 64;
const MAX_INT = 2n ** 63n - 1n;
const EXTERNAL = 1n;
const PLACE_KEYS = ["location", "offset", "length"] as const;
const DECIMAL = /^(?:0|[1-9][0-9]{0,18})$/;
// The format that ONNX Runtime recognizes by these bytes, whatever the file's name is.
const ORT_FORMAT = "ORTM";
const ORT_FORMAT_START = 4;
// ONNX Runtime can be made to take session options, such as a file for profiles, from here.
const ENGINE_OPTIONS = "ort_config";
// Only its branches are graphs that run once at most.
const BRANCHING = "If";
// They need not end, or read a file or an image by themselves.
const REFUSED_OPERATORS = ["Loop", "Scan", "SequenceMap", "EPContext", "ImageDecoder"];
const DEFAULT_DOMAIN = "ai.onnx";

const ENTRY = new MessageType("StringStringEntryProto", { 1: BYTES, 2: BYTES });
const OPSET = new MessageType("OperatorSetIdProto", { 1: BYTES, 2: VARINT });
// Parts of a model that are read only to be refused, in a sentence of their own.
const REFUSED_PARTS: ReadonlyMap<number, string> = new Map([
  [20, "training information"],
  [25, "local functions"],
  [26, "a configuration"],
]);
const MODEL = new MessageType(
  "ModelProto",
  {
    1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES, 8: BYTES, 14: BYTES,
    20: BYTES, 25: BYTES, 26: BYTES,
  },
  [8, 14, 20, 25, 26],
);
const GRAPH = new MessageType(
  "GraphProto",
  { 1: BYTES, 2: BYTES, 5: BYTES, 10: BYTES, 11: BYTES, 12: BYTES, 13: BYTES, 14: BYTES, 16: BYTES },
  [1, 5, 11, 12, 13, 14, 16],
);
const NODE = new MessageType(
  "NodeProto",
  { 1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES, 5: BYTES, 6: BYTES, 7: BYTES, 9: BYTES },
  [1, 2, 5, 9],
);
const ATTRIBUTE = new MessageType(
  "AttributeProto",
  {
    1: BYTES, 2: FIXED32, 3: VARINT, 4: BYTES, 5: BYTES, 6: BYTES, 7: FIXED32, 8: VARINT, 9: BYTES, 10: BYTES,
    11: BYTES, 13: BYTES, 14: BYTES, 15: BYTES, 20: VARINT,
  },
  [7, 8, 9, 10, 11, 15],
);
const TENSOR = new MessageType(
  "TensorProto",
  {
    1: VARINT, 2: VARINT, 4: BYTES, 5: BYTES, 7: BYTES, 8: BYTES, 9: BYTES, 10: BYTES, 11: BYTES, 12: BYTES, 13: BYTES,
    14: VARINT, 16: BYTES,
  },
  [1, 13, 16],
);
// TensorProto.DataType with the bits of an element; strings and complex numbers are in no graph of a bundle.
const BITS: ReadonlyMap<number, number> = new Map([
  [1, 32], [2, 8], [3, 8], [4, 16], [5, 16], [6, 32], [7, 64], [9, 8], [10, 16], [11, 64], [12, 32], [13, 64], [16, 16],
  [17, 8], [18, 8], [19, 8], [20, 8], [21, 4], [22, 4], [23, 4], [24, 8], [25, 2], [26, 2],
]);
const RAW = 9;
const INT32_DATA = 5;
// The field of values that are not raw bytes, by data type; int32_data for all others.
const TYPED: ReadonlyMap<number, number> = new Map([[1, 4], [7, 7], [11, 10], [12, 11], [13, 11]]);
const VALUES: ReadonlySet<number> = new Set([...TYPED.values(), INT32_DATA]);
const FIXED_SIZES: ReadonlyMap<number, number> = new Map([[4, 4], [10, 8]]);

/** The file that may have a graph's weights: its name in the bundle, and its size. */
export interface WeightsFile {
  readonly name: string;
  readonly bytes: number;
}

/** Every reason not to give a graph to an engine, in time linear in its bytes. */
export function scanGraph(content: Uint8Array, weights: WeightsFile, opDomains: readonly string[]): string[] {
  const start = String.fromCharCode(...content.subarray(ORT_FORMAT_START, ORT_FORMAT_START + ORT_FORMAT.length));
  if (start === ORT_FORMAT) {
    return ["is a graph in the format of ONNX Runtime, not in that of ONNX"];
  }
  const scanner = new Scanner(content, weights, new Set(opDomains.map((domain) => domain || DEFAULT_DOMAIN)));
  try {
    scanner.scanModel();
  } catch (error) {
    if (!(error instanceof WireFormatError)) {
      throw error;
    }
    scanner.note(`is not an ONNX graph as a bundle has it (${error.message})`);
  }
  return [...scanner.problems];
}

/** What a tensor says of itself; `stored` is the number of its values or raw bytes, by field. */
interface Tensor {
  name: string;
  dataType: number;
  dataLocation: bigint;
  readonly dims: bigint[];
  readonly place: (readonly [string, string])[];
  readonly stored: Map<number, number>;
}

/** Walks a graph once, and notes what is wrong with it. */
class Scanner {
  // Many nodes may have the same problem.
  readonly problems = new Set<string>();
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(
    private readonly content: Uint8Array,
    private readonly weights: WeightsFile,
    private readonly domains: ReadonlySet<string>,
  ) {}

  /** Add a problem, unless there are more than anyone reads. */
  note(problem: string): void {
    const isOneTooMany = this.problems.size >= MAX_PROBLEMS && !this.problems.has(problem);
    this.problems.add(isOneTooMany ? "has more problems than these" : problem);
  }

  scanModel(): void {
    let graph: { start: number; end: number } | undefined;
    for (const { number, start, end } of readFields(this.content, MODEL, 0, this.content.length)) {
      const refused = REFUSED_PARTS.get(number);
      if (number === 7) {
        graph = { start, end };
      } else if (number === 8) {
        this.#scanOpset(start, end);
      } else if (number === 14) {
        this.#checkMetadata(start, end);
      } else if (refused !== undefined) {
        this.note(`has ${refused}, which no export writes`);
      }
    }
    if (graph === undefined) {
      throw new WireFormatError("ModelProto has no graph");
    }
    this.#scanGraph(graph.start, graph.end, 1);
  }

  #text(start: number, end: number): string {
    return this.#decoder.decode(this.content.subarray(start, end));
  }

  #checkMetadata(start: number, end: number): void {
    const [key] = this.#readEntry(start, end);
    if (key === ENGINE_OPTIONS) {
      this.note(`has options of ONNX Runtime (${key}) in its metadata, which no export writes`);
    }
  }

  #scanOpset(start: number, end: number): void {
    let domain = "";
    for (const field of readFields(this.content, OPSET, start, end)) {
      if (field.number === 1) {
        domain = this.#text(field.start, field.end);
      }
    }
    this.#checkDomain(domain);
  }

  #checkDomain(domain: string): void {
    const name = domain || DEFAULT_DOMAIN;
    if (!this.domains.has(name)) {
      this.note(`uses operators of ${quote(name)}, which are not among its op_domains`);
    }
  }

  #scanGraph(start: number, end: number, depth: number): void {
    if (depth > MAX_DEPTH) {
      throw new WireFormatError(`graphs are nested more than ${MAX_DEPTH} deep`);
    }
    for (const field of readFields(this.content, GRAPH, start, end)) {
      if (field.number === 1) {
        this.#scanNode(field.start, field.end, depth);
      } else if (field.number === 5) {
        this.#scanTensor(field.start, field.end);
      }
    }
  }

  #scanNode(start: number, end: number, depth: number): void {
    let operator = "";
    let domain = "";
    const attributes: (readonly [number, number])[] = [];
    for (const field of readFields(this.content, NODE, start, end)) {
      if (field.number === 5) {
        attributes.push([field.start, field.end]);
      } else if (field.number === 4) {
        operator = this.#text(field.start, field.end);
      } else if (field.number === 7) {
        domain = this.#text(field.start, field.end);
      }
    }
    if (domain !== "") {
      this.#checkDomain(domain);
    }
    if (REFUSED_OPERATORS.includes(operator)) {
      this.note(`has the operator ${operator}, which no export writes`);
    }
    for (const [begin, stop] of attributes) {
      this.#scanAttribute(begin, stop, operator, depth);
    }
  }

  #scanAttribute(start: number, end: number, operator: string, depth: number): void {
    for (const field of readFields(this.content, ATTRIBUTE, start, end)) {
      if (field.number === 5 || field.number === 10) {
        this.#scanTensor(field.start, field.end);
      } else if (field.number === 6 || field.number === 11) {
        if (operator !== BRANCHING) {
          this.note(`has a graph within the operator ${quote(operator)}, which no export writes`);
        }
        this.#scanGraph(field.start, field.end, depth + 1);
      }
    }
  }

  #scanTensor(start: number, end: number): void {
    const tensor: Tensor = { name: '""', dataType: 0, dataLocation: 0n, dims: [], place: [], stored: new Map() };
    for (const field of readFields(this.content, TENSOR, start, end)) {
      switch (field.number) {
        case 1:
          tensor.dims.push(field.value);
          break;
        case 2:
          tensor.dataType = Number(field.value);
          break;
        case 8:
          tensor.name = quote(this.#text(field.start, field.end));
          break;
        case 13:
          tensor.place.push(this.#readEntry(field.start, field.end));
          break;
        case 14:
          tensor.dataLocation = field.value;
          break;
        case RAW:
          tensor.stored.set(RAW, field.end - field.start);
          break;
        default:
          if (VALUES.has(field.number)) {
            tensor.stored.set(field.number, this.#countValues(field.number, field.start, field.end));
          }
      }
    }
    this.#checkTensor(tensor);
  }

  #countValues(number: number, start: number, end: number): number {
    const size = FIXED_SIZES.get(number);
    return size === undefined ? countVarints(this.content, start, end) : Math.floor((end - start) / size);
  }

  #readEntry(start: number, end: number): readonly [string, string] {
    let key = "";
    let value = "";
    for (const field of readFields(this.content, ENTRY, start, end)) {
      const text = this.#text(field.start, field.end);
      if (field.number === 1) {
        key = text;
      } else {
        value = text;
      }
    }
    return [key, value];
  }

  /** Note where the values of a tensor are not as many as its shape says, or lie where they may not. */
  #checkTensor(tensor: Tensor): void {
    if (tensor.dims.length > MAX_RANK || tensor.dims.some((size) => size > MAX_INT)) {
      throw new WireFormatError("a tensor has a shape that none has");
    }
    // Parsers take the lowest 32 bits of larger ones.
    if (tensor.dataLocation > EXTERNAL) {
      throw new WireFormatError(`TensorProto has the data_location ${tensor.dataLocation}`);
    }
    const bits = BITS.get(tensor.dataType);
    if (bits === undefined) {
      this.note(`has the tensor ${tensor.name} of the data type ${tensor.dataType}, which no export writes`);
      return;
    }
    const count = tensor.dims.reduce((product, size) => product * size, 1n);
    const size = (count * BigInt(bits) + 7n) / 8n;
    if (tensor.dataLocation === EXTERNAL) {
      if (tensor.stored.size > 0) {
        this.note(`has the tensor ${tensor.name} inside and outside the graph`);
      }
      this.#checkPlace(tensor, size);
    } else if (tensor.place.length > 0) {
      this.note(`has the tensor ${tensor.name} with the place of weights that lie in the graph`);
    } else {
      const typed = TYPED.get(tensor.dataType) ?? INT32_DATA;
      const allowed = new Map([[RAW, size]]).set(typed, bits < 8 ? size : count);
      const stored = tensor.stored.size > 0 ? [...tensor.stored] : [[RAW, 0] as const];
      if (stored.length > 1 || stored.some(([number, values]) => allowed.get(number) !== BigInt(values))) {
        this.note(`has the tensor ${tensor.name} with more or fewer values than its shape has`);
      }
    }
  }

  #checkPlace(tensor: Tensor, size: bigint): void {
    const place = new Map(tensor.place);
    const [location, offset, length] = PLACE_KEYS.map((key) => place.get(key));
    const isComplete = location !== undefined && offset !== undefined && length !== undefined;
    if (!isComplete || tensor.place.length !== PLACE_KEYS.length) {
      const keys = quote(tensor.place.slice(0, 2 * PLACE_KEYS.length).map(([key]) => key).join(", "));
      this.note(`has the weights ${tensor.name} with ${keys} instead of location, offset and length`);
    } else if (location !== this.weights.name) {
      this.note(`has weights at ${quote(location)}, and its weights are ${this.weights.name}`);
    } else if (!DECIMAL.test(offset) || !DECIMAL.test(length)) {
      this.note(`has the weights ${tensor.name} with an offset or length that is no number`);
    } else {
      if (BigInt(length) !== size) {
        const taken = size <= MAX_INT ? String(size) : "more than any file has";
        this.note(`has the weights ${tensor.name} of ${length} bytes, where its shape and type take ${taken}`);
      }
      if (BigInt(offset) + BigInt(length) > BigInt(this.weights.bytes)) {
        this.note(`has the weights ${tensor.name} beyond the end of ${this.weights.name}`);
      }
    }
  }
}

/** Foreign text, printable and short, in quotes. */
function quote(text: string): string {
  const short = text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}...` : text;
  return JSON.stringify(short).replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
