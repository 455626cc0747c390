/**
 * The patterns of a tokenizer.json as regular expressions of JavaScript.
 *
 * @huggingface/tokenizers translates those that are written for Oniguruma.
 */

import { SplitPreTokenizer } from "@huggingface/tokenizers";

import { type Configuration, objectOf, TokenizerError } from "./configuration.js";

const SPECIAL = /[.*+?^${}()|[\]\\]/g;

/** The pattern of a step, `{"String": ...}` or `{"Regex": ...}`, as a global expression. */
export function compilePattern(step: Configuration): RegExp {
  const pattern = objectOf(step.pattern);
  if (typeof pattern.String === "string") {
    return new RegExp(pattern.String.replace(SPECIAL, "\\$&"), "gu");
  }
  if (typeof pattern.Regex !== "string") {
    throw new TokenizerError(`a ${String(step.type)} has no pattern`);
  }
  const { pattern: compiled } = new SplitPreTokenizer({
    type: "Split",
    pattern: { Regex: pattern.Regex },
    behavior: "Isolated",
    invert: false,
  });
  if (compiled === null) {
    throw new TokenizerError(`the regular expression ${JSON.stringify(pattern.Regex)} cannot be translated`);
  }
  return compiled;
}
