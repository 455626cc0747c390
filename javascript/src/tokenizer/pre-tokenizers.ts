/** The pre-tokenizers of the Rust tokenizers: they cut a normalized text into the words that the model splits. */

import { byteCharacters } from "./byte-level.js";
import { booleanOf, type Configuration, numberOf, stepsOf, stringOf, TokenizerError } from "./configuration.js";
import { compilePattern } from "./patterns.js";
import { type Behavior, splitBy, splitByPattern } from "./splitting.js";
import { isWhitespace, punctuation } from "./unicode.js";

/** A part of a text; `first` if it begins where the text does. */
export interface Word {
  readonly text: string;
  readonly first: boolean;
}

export type PreTokenizer = (words: Word[]) => Word[];

const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const WORDS = new RegExp(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`, "gu");
const BYTE_LEVEL =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const NUMBER = /\p{N}/u;
const BEHAVIORS: ReadonlyMap<string, Behavior> = new Map([
  ["removed", "Removed"],
  ["isolated", "Isolated"],
  ["mergedwithprevious", "MergedWithPrevious"],
  ["mergedwithnext", "MergedWithNext"],
  ["contiguous", "Contiguous"],
]);

/** What does the `pre_tokenizer` of a tokenizer.json. */
export function createPreTokenizer(configuration: unknown): PreTokenizer {
  const steps = stepsOf(configuration, "pretokenizers").map(createStep);
  return (words) => steps.reduce((value, step) => step(value), words);
}

function createStep(step: Configuration): PreTokenizer {
  switch (step.type) {
    case "BertPreTokenizer":
      return (words) => words.flatMap(splitForBert);
    case "Whitespace":
      return (words) => words.flatMap((word) => splitByPattern(word, WORDS, "Removed", true));
    case "WhitespaceSplit":
      return (words) => words.flatMap((word) => splitBy(word, isWhitespace, "Removed"));
    case "Punctuation": {
      const behavior = behaviorOf(step, "Isolated");
      const isPunctuation = (code: number): boolean => punctuation().has(code);
      return (words) => words.flatMap((word) => splitBy(word, isPunctuation, behavior));
    }
    case "Digits": {
      const behavior = booleanOf(step.individual_digits, false) ? "Isolated" : "Contiguous";
      const isNumber = (code: number): boolean => NUMBER.test(String.fromCodePoint(code));
      return (words) => words.flatMap((word) => splitBy(word, isNumber, behavior));
    }
    case "CharDelimiterSplit": {
      const delimiter = stringOf(step.delimiter, " ").codePointAt(0);
      return (words) => words.flatMap((word) => splitBy(word, (code) => code === delimiter, "Removed"));
    }
    case "Split": {
      const pattern = compilePattern(step);
      const behavior = behaviorOf(step, "Removed");
      const inverts = booleanOf(step.invert, false);
      return (words) => words.flatMap((word) => splitByPattern(word, pattern, behavior, inverts));
    }
    case "Metaspace":
      return metaspace(step);
    case "ByteLevel":
      return byteLevel(step);
    case "FixedLength":
      return fixedLength(numberOf(step.length, 5));
    default:
      throw new TokenizerError(`it has the pre-tokenizer ${String(step.type)}, which this package does not have`);
  }
}

function behaviorOf(step: Configuration, otherwise: Behavior): Behavior {
  return BEHAVIORS.get(stringOf(step.behavior, otherwise).toLowerCase().replaceAll("_", "")) ?? otherwise;
}

/** Cut at whitespace, which is left out, and around each punctuation mark. */
function splitForBert({ text, first }: Word): Word[] {
  const words: Word[] = [];
  const marks = punctuation();
  let start = 0;
  const add = (end: number): void => {
    if (end > start) {
      words.push({ text: text.slice(start, end), first: first && start === 0 });
    }
  };
  for (let place = 0; place < text.length; ) {
    const code = text.codePointAt(place) ?? 0;
    const next = place + (code > 0xffff ? 2 : 1);
    const isMark = marks.has(code);
    if (isMark || isWhitespace(code)) {
      add(place);
      start = place;
      if (isMark) {
        add(next);
      }
      start = next;
    }
    place = next;
  }
  add(text.length);
  return words;
}

function metaspace(step: Configuration): PreTokenizer {
  const mark = stringOf(step.replacement, "▁");
  // Older files have `add_prefix_space` instead.
  const scheme = stringOf(step.prepend_scheme, booleanOf(step.add_prefix_space, true) ? "always" : "never");
  const splits = booleanOf(step.split, true);
  const code = mark.codePointAt(0);
  return (words) =>
    words.flatMap(({ text, first }) => {
      let marked = text.replaceAll(" ", mark);
      if (!marked.startsWith(mark) && (scheme === "always" || (scheme === "first" && first))) {
        marked = mark + marked;
      }
      return splits
        ? splitBy({ text: marked, first }, (one) => one === code, "MergedWithNext")
        : [{ text: marked, first }];
    });
}

function byteLevel(step: Configuration): PreTokenizer {
  const prefixes = booleanOf(step.add_prefix_space, true);
  const splits = booleanOf(step.use_regex, true);
  return (words) =>
    words.flatMap((word) => {
      const spaced = prefixes && !word.text.startsWith(" ") ? { ...word, text: ` ${word.text}` } : word;
      const parts = splits ? splitByPattern(spaced, BYTE_LEVEL, "Isolated", false) : [spaced];
      return parts.map(({ text, first }) => ({ text: byteCharacters(text), first }));
    });
}

function fixedLength(length: number): PreTokenizer {
  return (words) =>
    words.flatMap(({ text, first }) => {
      const characters = Array.from(text);
      const parts: Word[] = [];
      for (let start = 0; start < characters.length; start += length) {
        parts.push({ text: characters.slice(start, start + length).join(""), first: first && start === 0 });
      }
      return parts;
    });
}
