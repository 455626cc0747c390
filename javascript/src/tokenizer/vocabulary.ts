/** Vocabularies: the ids of tokens. */

import { isObject, TokenizerError } from "./configuration.js";

export type Vocabulary = ReadonlyMap<string, number>;

const encoder = new TextEncoder();

/** The `vocab` of a model that has it as an object, token -> id. */
export function readVocabulary(value: unknown): Map<string, number> {
  if (!isObject(value)) {
    throw new TokenizerError("its model has no vocabulary");
  }
  const vocabulary = new Map<string, number>();
  for (const token in value) {
    const id = value[token];
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0) {
      throw new TokenizerError("its vocabulary has an id that is not a positive integer");
    }
    vocabulary.set(token, id);
  }
  return vocabulary;
}

/** The id of a model's unknown token, which a text needs. */
export function requireUnknown(id: number | undefined): number {
  if (id === undefined) {
    throw new TokenizerError("its model has no unknown token, and a text has one");
  }
  return id;
}

/** The tokens `<0x00>` to `<0xFF>` of a text's bytes; undefined if the vocabulary lacks one. */
export function byteTokens(text: string, vocabulary: Vocabulary): number[] | undefined {
  const ids: number[] = [];
  for (const byte of encoder.encode(text)) {
    const id = vocabulary.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    if (id === undefined) {
      return undefined;
    }
    ids.push(id);
  }
  return ids;
}
