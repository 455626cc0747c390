/** Unigram: the most likely way to cut a word into tokens, each with a score of its own. */

import { booleanOf, type Configuration, listOf, TokenizerError } from "./configuration.js";
import type { TokenModel } from "./models.js";
import { byteTokens, requireUnknown } from "./vocabulary.js";

// By how much an unknown character is worse than the worst token.
const UNKNOWN_PENALTY = 10;

export class Unigram implements TokenModel {
  readonly vocabulary = new Map<string, number>();
  readonly #scores: Float64Array;
  readonly #unknown: number | undefined;
  readonly #unknownScore: number;
  readonly #fallsBackToBytes: boolean;
  // By the first unit of tokens: the length of the longest.
  readonly #longest = new Uint16Array(0x10000);

  constructor(configuration: Configuration) {
    const pieces = listOf(configuration.vocab);
    this.#scores = new Float64Array(pieces.length);
    pieces.forEach((piece, id) => {
      const [token, score] = listOf(piece);
      if (typeof token !== "string" || typeof score !== "number") {
        throw new TokenizerError("its vocabulary must have a token and a score each");
      }
      this.vocabulary.set(token, id);
      this.#scores[id] = score;
      if (token !== "") {
        const first = token.charCodeAt(0);
        this.#longest[first] = Math.max(this.#longest[first], Math.min(token.length, 0xffff));
      }
    });
    const { unk_id: unknown } = configuration;
    this.#unknown = typeof unknown === "number" ? unknown : undefined;
    if (this.#unknown !== undefined && this.#unknown >= pieces.length) {
      throw new TokenizerError("its unknown token is not in its vocabulary");
    }
    this.#unknownScore = this.#scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
    this.#fallsBackToBytes = booleanOf(configuration.byte_fallback, false);
  }

  encode(word: string, ids: number[]): void {
    const { starts, tokens } = this.#bestPaths(word);
    const found: number[] = [];
    let unknownEnd = -1;
    for (let end = word.length; end > 0; end = starts[end]) {
      const isUnknown = tokens[end] === this.#unknown;
      if (isUnknown && unknownEnd < 0) {
        unknownEnd = end;
      } else if (!isUnknown && unknownEnd >= 0) {
        this.#addUnknown(word.slice(end, unknownEnd), found);
        unknownEnd = -1;
      }
      if (!isUnknown) {
        found.push(tokens[end]);
      }
    }
    if (unknownEnd >= 0) {
      this.#addUnknown(word.slice(0, unknownEnd), found);
    }
    for (let place = found.length - 1; place >= 0; place--) {
      ids.push(found[place]);
    }
  }

  /** For each end of a token in a word: where the last token of the best path to it begins, and that token. */
  #bestPaths(word: string): { starts: Int32Array; tokens: Int32Array } {
    const size = word.length;
    const scores = new Float64Array(size + 1);
    const starts = new Int32Array(size + 1).fill(-1);
    const tokens = new Int32Array(size + 1);
    const improve = (start: number, end: number, token: number, score: number): void => {
      if (starts[end] < 0 || score > scores[end]) {
        scores[end] = score;
        starts[end] = start;
        tokens[end] = token;
      }
    };
    for (let start = 0; start < size; ) {
      const width = (word.codePointAt(start) ?? 0) > 0xffff ? 2 : 1;
      const limit = Math.min(size, start + this.#longest[word.charCodeAt(start)]);
      let hasCharacter = false;
      for (let end = start + 1; end <= limit; end++) {
        const token = this.vocabulary.get(word.slice(start, end));
        if (token !== undefined) {
          improve(start, end, token, this.#scores[token] + scores[start]);
          hasCharacter ||= end === start + width;
        }
      }
      if (!hasCharacter) {
        improve(start, start + width, requireUnknown(this.#unknown), this.#unknownScore + scores[start]);
      }
      start += width;
    }
    return { starts, tokens };
  }

  /** Add, backwards, what stands for adjacent unknown characters: a token of that text, their bytes, or one unknown. */
  #addUnknown(text: string, found: number[]): void {
    const token = this.vocabulary.get(text);
    if (token !== undefined) {
      found.push(token);
      return;
    }
    const bytes = this.#fallsBackToBytes ? byteTokens(text, this.vocabulary) : undefined;
    if (bytes !== undefined) {
      found.push(...bytes.reverse());
    } else if (this.#unknown !== undefined) {
      found.push(this.#unknown);
    }
  }
}
