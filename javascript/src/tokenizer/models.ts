/** The model of a tokenizer: what makes token ids of words. */

import { BytePairs } from "./byte-pairs.js";
import { type Configuration, objectOf, stringOf, TokenizerError } from "./configuration.js";
import { Unigram } from "./unigram.js";
import { readVocabulary, requireUnknown, type Vocabulary } from "./vocabulary.js";
import { WordPiece } from "./word-piece.js";

export interface TokenModel {
  readonly vocabulary: Vocabulary;

  /** Append the ids of a word. */
  encode(word: string, ids: number[]): void;
}

/** What does the `model` of a tokenizer.json. */
export function createModel(value: unknown): TokenModel {
  const configuration = objectOf(value);
  switch (kindOf(configuration)) {
    case "WordPiece":
      return new WordPiece(configuration);
    case "Unigram":
      return new Unigram(configuration);
    case "BPE":
      return new BytePairs(configuration);
    case "WordLevel":
      return new WordLevel(configuration);
    default:
      throw new TokenizerError(`its model is ${String(configuration.type)}, which this package does not have`);
  }
}

/** The model's type, which older files leave out. */
function kindOf(configuration: Configuration): unknown {
  if (configuration.type !== undefined) {
    return configuration.type;
  }
  if (Array.isArray(configuration.vocab)) {
    return "Unigram";
  }
  return configuration.merges === undefined ? "WordPiece" : "BPE";
}

class WordLevel implements TokenModel {
  readonly vocabulary: Vocabulary;
  readonly #unknown: number | undefined;

  constructor(configuration: Configuration) {
    this.vocabulary = readVocabulary(configuration.vocab);
    this.#unknown = this.vocabulary.get(stringOf(configuration.unk_token, "<unk>"));
  }

  encode(word: string, ids: number[]): void {
    ids.push(this.vocabulary.get(word) ?? requireUnknown(this.#unknown));
  }
}
