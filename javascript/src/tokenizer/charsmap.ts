/**
 * The normalizer Precompiled: a map of sentencepiece, as XLM-R's tokenizer has it.
 *
 * The map is a trie over UTF-8 (darts-clone's double array), behind its size, and then the replacements, each ending in
 * a zero. It is applied as the Rust tokenizers apply it, which is not as sentencepiece does: a grapheme of fewer than 6
 * bytes is replaced whole by what its shortest prefix in the trie maps to; otherwise each of its characters is.
 */

import { TokenizerError } from "./configuration.js";

const MAX_GRAPHEME_BYTES = 6;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

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
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const size = bytes.length < 4 ? 1 : view.getUint32(0, true);
    if (size % 4 !== 0 || size + 4 > bytes.length) {
      throw new TokenizerError("precompiled_charsmap is damaged");
    }
    const units = new Uint32Array(size / 4);
    for (let place = 0; place < units.length; place++) {
      units[place] = view.getUint32(4 + 4 * place, true);
    }
    this.#trie = new PrefixTrie(units);
    this.#replacements = bytes.subarray(4 + size);
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
      // Few texts have more different graphemes than this; the limit is for those that have.
      if (this.#known.size < 20_000) {
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
