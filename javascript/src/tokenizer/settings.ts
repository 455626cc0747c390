/** What a tokenizer.json may say: settings that take long for ordinary texts, or give other tokens each time, are refused. */

import { longestReplacement } from "./charsmap.js";
import { type Configuration, isObject, listOf, objectOf, stepsOf, stringOf, TokenizerError } from "./configuration.js";
import { PatternBudget } from "./regex-cost.js";

// The time for a word grows with the square of its length; published models have 100.
const MAX_WORD_CHARACTERS = 500;
// Normalizers, pre-tokenizers and the like; published models have up to 20.
const MAX_STEPS = 100;
const MAX_ADDED_CHARACTERS = 2_000_000;
// Tokens around a text or pair, by a template.
const MAX_TEMPLATE_TOKENS = 1_000;
// How many characters one may become by all normalizers, and the text that one of them inserts.
const MAX_GROWTH = 300;
const MAX_INSERTED = 256;
const MAX_AFFIX = 64;
// Of a Unigram model: the time for a word grows with the square of this.
const MAX_PIECE_BYTES = 500;

/** Throw `TokenizerError` if a setting of a parsed tokenizer.json is refused. */
export function checkSettings(value: unknown): void {
  const file = objectOf(value);
  const truncation = objectOf(file.truncation);
  if ((truncation.stride ?? 0) !== 0) {
    throw new TokenizerError("truncation.stride must be 0");
  }
  if (truncation.max_length === 0) {
    throw new TokenizerError("truncation.max_length must be at least 1");
  }
  const normalizers = stepsOf(file.normalizer, "normalizers");
  const steps = [...normalizers, ...stepsOf(file.pre_tokenizer, "pretokenizers"), ...stepsOf(file.decoder, "decoders")];
  const processors = stepsOf(file.post_processor, "processors");
  if (steps.length + processors.length > MAX_STEPS) {
    throw new TokenizerError(`it has more than ${MAX_STEPS} normalizers, pre-tokenizers and other steps`);
  }
  const added = listOf(file.added_tokens).map((token) => lengthOf(objectOf(token).content));
  if (added.reduce((sum, length) => sum + length, 0) > MAX_ADDED_CHARACTERS) {
    throw new TokenizerError(`its added tokens have more than ${MAX_ADDED_CHARACTERS} characters`);
  }
  const budget = new PatternBudget();
  for (const step of steps) {
    checkStep(step, budget);
  }
  if (normalizers.map(growthOf).reduce((product, growth) => product * growth, 1) > MAX_GROWTH) {
    throw new TokenizerError(`its normalizers make more than ${MAX_GROWTH} characters of one`);
  }
  for (const step of processors) {
    if (step.type === "TemplateProcessing") {
      checkTemplate(step, "single", ["A"]);
      checkTemplate(step, "pair", ["A", "B"]);
    }
  }
  checkModel(objectOf(file.model));
}

function lengthOf(value: unknown): number {
  return typeof value === "string" ? value.length : 0;
}

function checkStep(step: Configuration, budget: PatternBudget): void {
  const kind = String(step.type);
  if (kind === "FixedLength" && step.length === 0) {
    throw new TokenizerError("the length of a FixedLength must be at least 1");
  }
  for (const text of [step.content, step.prepend]) {
    if (lengthOf(text) > MAX_INSERTED) {
      throw new TokenizerError(`a ${kind} inserts ${lengthOf(text)} characters`);
    }
  }
  const pattern = objectOf(step.pattern).Regex;
  if (typeof pattern === "string") {
    budget.spend(pattern);
  }
}

/** How many characters a normalizer may make of one. */
function growthOf(step: Configuration): number {
  if (step.type === "Precompiled") {
    const charsmap = stringOf(step.precompiled_charsmap, "");
    return charsmap === "" ? 1 : Math.max(1, longestReplacement(charsmap));
  }
  if (typeof step.content !== "string") {
    return 1;
  }
  const replaced = objectOf(step.pattern).String;
  if (typeof replaced === "string" && replaced !== "") {
    return Math.max(1, Math.ceil(step.content.length / replaced.length));
  }
  // A regular expression may match nothing, before every character.
  return step.content.length + 1;
}

function checkTemplate(step: Configuration, name: "single" | "pair", sequences: readonly string[]): void {
  const { special_tokens: special } = step;
  const tokens = (isObject(special) ? Object.values(special) : listOf(special)).map(objectOf);
  const lengths = new Map(tokens.map((token) => [String(token.id), listOf(token.ids).length]));
  const pieces = listOf(step[name]).map(objectOf);
  const texts = pieces.flatMap(({ Sequence: text }) => (text === undefined ? [] : [String(objectOf(text).id)]));
  if (new Set(texts).size !== texts.length || texts.some((text) => !sequences.includes(text))) {
    throw new TokenizerError(`the template ${JSON.stringify(name)} has a text more than once, or one that is not there`);
  }
  const added = pieces.flatMap(({ SpecialToken: token }) =>
    token === undefined ? [] : [lengths.get(String(objectOf(token).id)) ?? 1],
  );
  if (added.reduce((sum, length) => sum + length, 0) > MAX_TEMPLATE_TOKENS) {
    throw new TokenizerError(`the template ${JSON.stringify(name)} has more than ${MAX_TEMPLATE_TOKENS} tokens`);
  }
}

function checkModel(model: Configuration): void {
  const limit = model.max_input_chars_per_word;
  if (typeof limit === "number" && limit > MAX_WORD_CHARACTERS) {
    throw new TokenizerError(`max_input_chars_per_word is ${limit}, and must be at most ${MAX_WORD_CHARACTERS}`);
  }
  if (typeof model.dropout === "number" && model.dropout > 0) {
    throw new TokenizerError("dropout splits texts by chance, and must be null");
  }
  for (const name of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (lengthOf(model[name]) > MAX_AFFIX) {
      throw new TokenizerError(`${name} has more than ${MAX_AFFIX} characters`);
    }
  }
  const encoder = new TextEncoder();
  for (const piece of listOf(model.vocab)) {
    const [text] = listOf(piece);
    // No character has more than 3 bytes for each of its units.
    const isLong = typeof text === "string" && 3 * text.length > MAX_PIECE_BYTES;
    if (isLong && encoder.encode(text).length > MAX_PIECE_BYTES) {
      throw new TokenizerError(`its model has pieces of more than ${MAX_PIECE_BYTES} bytes`);
    }
  }
}
