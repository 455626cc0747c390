/** Vocabularies: the ids of tokens. */

import { isObject, TokenizerError } from "./configuration.js";

export type Vocabulary = ReadonlyMap<string, number>;

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
