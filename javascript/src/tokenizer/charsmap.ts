/**
 * The normalizer Precompiled: a map of sentencepiece, as XLM-R's tokenizer has it.
 *
 * The map is a trie over UTF-8 (darts-clone's double array), behind its size, and then the replacements, each ending in
 * a zero. It is applied as the Rust tokenizers apply it, which is not as sentencepiece does: a grapheme of fewer than 6
 * bytes is replaced whole by what its shortest prefix in the trie maps to; otherwise each of its characters is.
 */

import { bytesOf } from "../bundle/base64.js";
import { TokenizerError } from "./configuration.js";

const MAX_GRAPHEME_BYTES = 6;
// Few texts have more different graphemes; the limit is for those that have.
const MAX_CACHED = 20_000;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The bytes of a map's trie, and of its replacements. */
interface Parts {
  readonly trie: DataView;
  readonly replacements: Uint8Array;
}

/** Read a `precompiled_charsmap`; throws `TokenizerError` if it is damaged. */
function readParts(base64: string): Parts {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = bytesOf(base64);
  } catch (error) {
    throw new TokenizerError("precompiled_charsmap is damaged", { cause: error });
  }
  const view = new DataView(bytes.buffer);
  const size = bytes.length < 4 ? 1 : view.getUint32(0, true);
  if (size % 4 !== 0 || size + 4 > bytes.length) {
    throw new TokenizerError("precompiled_charsmap is damaged");
  }
  return { trie: new DataView(bytes.buffer, 4, size), replacements: bytes.subarray(4 + size) };
}

/** The bytes of the longest replacement of a `precompiled_charsmap`; throws `TokenizerError` if it is damaged. */
export function longestReplacement(base64: string): number {
  const { replacements } = readParts(base64);
  let longest = 0;
  for (let start = 0; start < replacements.length; ) {
    const end = replacements.indexOf(0, start);
    const stop = end < 0 ? replacements.length : end;
    longest = Math.max(longest, stop - start);
    start = stop + 1;
  }
  return longest;
}

/** A double array of darts-clone, whose units are 32 bits. */
class PrefixTrie {
  constructor(private readonly units: Uint32Array) {}

  /** The value of the shortest prefix of some bytes that is in the trie, or -1. */
  shortestPrefix(bytes: Uint8Array): number {
    const { units } = this;
    let node = offsetOf(units[0] ?? 0);
    for (const byte of bytes) {
      if (byte === 0) {
        return -1;
      }
      node ^= byte;
      const unit = units[node];
      if (unit === undefined || labelOf(unit) !== byte) {
        return -1;
      }
      node ^= offsetOf(unit);
      if ((unit >>> 8) & 1) {
        return (units[node] ?? 0) & 0x7fffffff;
      }
    }
    return -1;
  }
}

function offsetOf(unit: number): number {
  return ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;
}

function labelOf(unit: number): number {
  return (unit & 0x800000ff) >>> 0;
}

/** The map of a Precompiled, which replaces characters and graphemes. */
export class CharacterMap {
  readonly #trie: PrefixTrie;
  readonly #replacements: Uint8Array;
  // By text: what a grapheme or character becomes, null if it stays.
  readonly #known = new Map<string, string | null>();
  readonly #segmenter = new Intl.Segmenter("und", { granularity: "grapheme" });

  constructor(base64: string) {
    const { trie, replacements } = readParts(base64);
    const units = new Uint32Array(trie.byteLength / 4);
    for (let place = 0; place < units.length; place++) {
      units[place] = trie.getUint32(4 * place, true);
    }
    this.#trie = new PrefixTrie(units);
    this.#replacements = replacements;
  }

  normalize(text: string): string {
    let result = "";
    for (const { segment } of this.#segmenter.segment(text)) {
      result += this.#replace(segment);
    }
    return result;
  }

  #replace(grapheme: string): string {
    const whole = this.#lookUp(grapheme);
    if (whole !== null) {
      return whole;
    }
    let result = "";
    for (const character of grapheme) {
      result += this.#lookUp(character) ?? character;
    }
    return result;
  }

  #lookUp(text: string): string | null {
    let known = this.#known.get(text);
    if (known === undefined) {
      known = this.#find(text);
      if (this.#known.size < MAX_CACHED) {
        this.#known.set(text, known);
      }
    }
    return known;
  }

  #find(text: string): string | null {
    const bytes = encoder.encode(text);
    if (bytes.length >= MAX_GRAPHEME_BYTES) {
      return null;
    }
    const start = this.#trie.shortestPrefix(bytes);
    if (start < 0 || start >= this.#replacements.length) {
      return null;
    }
    const end = this.#replacements.indexOf(0, start);
    return decoder.decode(this.#replacements.subarray(start, end < 0 ? undefined : end));
  }
}
