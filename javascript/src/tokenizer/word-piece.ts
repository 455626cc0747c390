/** WordPiece: the longest token at each place of a word, or one unknown token for the word. */

import { type Configuration, numberOf, stringOf } from "./configuration.js";
import type { TokenModel } from "./models.js";
import { readVocabulary, requireUnknown, type Vocabulary } from "./vocabulary.js";

const MAX_CACHED_WORDS = 10_000;
const MAX_CACHED_LENGTH = 32;

export class WordPiece implements TokenModel {
  readonly vocabulary: Vocabulary;
  // Tokens within a word, without their prefix.
  readonly #continuing = new Map<string, number>();
  readonly #unknown: number | undefined;
  readonly #maxCharacters: number;
  readonly #longest: number;
  readonly #cache = new Map<string, readonly number[]>();

  constructor(configuration: Configuration) {
    const prefix = stringOf(configuration.continuing_subword_prefix, "##");
    this.vocabulary = readVocabulary(configuration.vocab);
    this.#unknown = this.vocabulary.get(stringOf(configuration.unk_token, "[UNK]"));
    this.#maxCharacters = numberOf(configuration.max_input_chars_per_word, 100);
    let longest = 0;
    for (const [token, id] of this.vocabulary) {
      longest = Math.max(longest, token.length);
      if (token.startsWith(prefix)) {
        this.#continuing.set(token.slice(prefix.length), id);
      }
    }
    this.#longest = longest;
  }

  encode(word: string, ids: number[]): void {
    const cached = this.#cache.get(word);
    if (cached !== undefined) {
      ids.push(...cached);
      return;
    }
    const pieces = this.#split(word);
    if (word.length <= MAX_CACHED_LENGTH && this.#cache.size < MAX_CACHED_WORDS) {
      this.#cache.set(word, pieces);
    }
    ids.push(...pieces);
  }

  #split(word: string): number[] {
    if (word.length > this.#maxCharacters && Array.from(word).length > this.#maxCharacters) {
      return [requireUnknown(this.#unknown)];
    }
    const pieces: number[] = [];
    let vocabulary: Vocabulary = this.vocabulary;
    for (let start = 0; start < word.length; ) {
      let end = Math.min(word.length, start + this.#longest);
      let id: number | undefined;
      // A slice that ends within a surrogate pair is no token.
      while (end > start && (id = vocabulary.get(word.slice(start, end))) === undefined) {
        end--;
      }
      if (id === undefined) {
        return [requireUnknown(this.#unknown)];
      }
      pieces.push(id);
      start = end;
      vocabulary = this.#continuing;
    }
    return pieces;
  }
}
