/** Byte-pair encoding: the characters of a word, of which pairs are merged in the order of a list. */

import { booleanOf, type Configuration, listOf, stringOf, TokenizerError } from "./configuration.js";
import type { TokenModel } from "./models.js";
import { byteTokens, readVocabulary, type Vocabulary } from "./vocabulary.js";

const MAX_CACHED_WORDS = 10_000;
const MAX_CACHED_LENGTH = 256;
// Merges sort by their rank and then by their place in the word, as one number.
const PLACES = 2 ** 31;

interface Merge {
  readonly rank: number;
  readonly id: number;
}

/** Symbols of a word as a list that is linked by place; a merged one has the id -1. */
interface Symbols {
  readonly ids: number[];
  readonly previous: number[];
  readonly next: number[];
}

export class BytePairs implements TokenModel {
  readonly vocabulary: Vocabulary;
  // By left id * stride + right id.
  readonly #merges = new Map<number, Merge>();
  readonly #stride: number;
  readonly #prefix: string;
  readonly #suffix: string;
  readonly #unknown: number | undefined;
  readonly #fusesUnknown: boolean;
  readonly #fallsBackToBytes: boolean;
  readonly #ignoresMerges: boolean;
  readonly #cache = new Map<string, readonly number[]>();

  constructor(configuration: Configuration) {
    this.vocabulary = readVocabulary(configuration.vocab);
    this.#prefix = stringOf(configuration.continuing_subword_prefix, "");
    this.#suffix = stringOf(configuration.end_of_word_suffix, "");
    this.#unknown = this.vocabulary.get(stringOf(configuration.unk_token, ""));
    this.#fusesUnknown = booleanOf(configuration.fuse_unk, false);
    this.#fallsBackToBytes = booleanOf(configuration.byte_fallback, false);
    this.#ignoresMerges = booleanOf(configuration.ignore_merges, false);
    let largest = 0;
    for (const id of this.vocabulary.values()) {
      largest = Math.max(largest, id);
    }
    this.#stride = largest + 1;
    listOf(configuration.merges).forEach((merge, rank) => this.#addMerge(merge, rank));
  }

  #addMerge(merge: unknown, rank: number): void {
    const [left, right] = typeof merge === "string" ? merge.split(" ") : listOf(merge);
    if (typeof left !== "string" || typeof right !== "string") {
      throw new TokenizerError("its merges must have two tokens each");
    }
    const [first, second] = [this.vocabulary.get(left), this.vocabulary.get(right)];
    const id = this.vocabulary.get(left + right.slice(this.#prefix.length));
    if (first === undefined || second === undefined || id === undefined) {
      throw new TokenizerError("its merges have a token that is not in its vocabulary");
    }
    this.#merges.set(first * this.#stride + second, { rank, id });
  }

  encode(word: string, ids: number[]): void {
    const whole = this.#ignoresMerges ? this.vocabulary.get(word) : undefined;
    if (whole !== undefined) {
      ids.push(whole);
      return;
    }
    let merged = this.#cache.get(word);
    if (merged === undefined) {
      merged = this.#merge(this.#symbolsOf(word));
      if (word.length < MAX_CACHED_LENGTH && this.#cache.size < MAX_CACHED_WORDS) {
        this.#cache.set(word, merged);
      }
    }
    for (const id of merged) {
      ids.push(id);
    }
  }

  /** The ids of a word's characters; of unknown ones their bytes, or the unknown token. */
  #symbolsOf(word: string): number[] {
    const ids: number[] = [];
    let follows = false;
    for (let start = 0; start < word.length; ) {
      const end = start + ((word.codePointAt(start) ?? 0) > 0xffff ? 2 : 1);
      const character = word.slice(start, end);
      const symbol =
        (start > 0 ? this.#prefix : "") + character + (end === word.length ? this.#suffix : "");
      const id = this.vocabulary.get(symbol);
      const bytes = id === undefined && this.#fallsBackToBytes ? byteTokens(symbol, this.vocabulary) : undefined;
      if (id !== undefined) {
        ids.push(id);
      } else if (bytes !== undefined) {
        ids.push(...bytes);
      } else if (this.#unknown !== undefined && !(follows && this.#fusesUnknown)) {
        ids.push(this.#unknown);
      }
      follows = id === undefined && bytes === undefined;
      start = end;
    }
    return ids;
  }

  #merge(ids: number[]): number[] {
    if (ids.length < 2) {
      return ids;
    }
    const symbols: Symbols = {
      ids,
      previous: ids.map((_, place) => place - 1),
      next: ids.map((_, place) => (place + 1 < ids.length ? place + 1 : -1)),
    };
    const queue = new SmallestFirst();
    for (let place = 0; place + 1 < ids.length; place++) {
      this.#enqueue(symbols, place, queue);
    }
    for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
      const place = key % PLACES;
      const merge = this.#mergeAt(symbols, place);
      // The pair that was here may have been merged with others meanwhile.
      if (merge === undefined || merge.rank !== Math.floor(key / PLACES)) {
        continue;
      }
      const right = symbols.next[place];
      const after = symbols.next[right];
      ids[place] = merge.id;
      ids[right] = -1;
      symbols.next[place] = after;
      if (after >= 0) {
        symbols.previous[after] = place;
      }
      if (symbols.previous[place] >= 0) {
        this.#enqueue(symbols, symbols.previous[place], queue);
      }
      this.#enqueue(symbols, place, queue);
    }
    return ids.filter((id) => id >= 0);
  }

  /** The merge of the symbol at a place and the next one, if there is one. */
  #mergeAt({ ids, next }: Symbols, place: number): Merge | undefined {
    return ids[place] < 0 || next[place] < 0
      ? undefined
      : this.#merges.get(ids[place] * this.#stride + ids[next[place]]);
  }

  #enqueue(symbols: Symbols, place: number, queue: SmallestFirst): void {
    const merge = this.#mergeAt(symbols, place);
    if (merge !== undefined) {
      queue.push(merge.rank * PLACES + place);
    }
  }
}

/** A heap of numbers that gives the smallest first. */
class SmallestFirst {
  readonly #heap: number[] = [];

  push(value: number): void {
    const heap = this.#heap;
    let place = heap.push(value) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (heap[parent] <= value) {
        break;
      }
      heap[place] = heap[parent];
      place = parent;
    }
    heap[place] = value;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const [smallest] = heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) {
      return smallest;
    }
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= heap.length) {
        break;
      }
      if (child + 1 < heap.length && heap[child + 1] < heap[child]) {
        child++;
      }
      if (heap[child] >= last) {
        break;
      }
      heap[place] = heap[child];
      place = child;
    }
    heap[place] = last;
    return smallest;
  }
}
