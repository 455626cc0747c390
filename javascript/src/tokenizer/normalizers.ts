/** The normalizers of the Rust tokenizers: what is done with a text before it is split. */

import { byteCharacters } from "./byte-level.js";
import { CharacterMap } from "./charsmap.js";
import { booleanOf, type Configuration, stepsOf, stringOf, TokenizerError } from "./configuration.js";
import { compilePattern } from "./patterns.js";
import {
  controls,
  isChinese,
  isWhitespace,
  marks,
  nonspacingMarks,
  normalizeTo,
  replaceCharacters,
  toLowerCase,
  without,
} from "./unicode.js";

export type Normalizer = (text: string) => string;

const NMT_REMOVED = /[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]/g;
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g;
const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;

/** What does the `normalizer` of a tokenizer.json. */
export function createNormalizer(configuration: unknown): Normalizer {
  const steps = stepsOf(configuration, "normalizers").map(createStep);
  return (text) => steps.reduce((value, step) => step(value), text);
}

function createStep(step: Configuration): Normalizer {
  switch (step.type) {
    case "BertNormalizer":
      return bertNormalizer(step);
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = step.type;
      return (text) => normalizeTo(form, text);
    }
    case "Lowercase":
      return toLowerCase;
    case "StripAccents":
      return (text) => without(text, marks());
    case "Strip":
      return strip(booleanOf(step.strip_left, true), booleanOf(step.strip_right, true));
    case "Replace":
      return replace(step);
    case "Prepend": {
      const prefix = stringOf(step.prepend, "");
      return (text) => (text === "" ? text : prefix + text);
    }
    case "Nmt":
      return (text) => text.replace(NMT_REMOVED, "").replace(NMT_SPACES, " ");
    case "Precompiled":
      return precompiled(step);
    case "ByteLevel":
      return byteCharacters;
    default:
      throw new TokenizerError(`it has the normalizer ${String(step.type)}, which this package does not have`);
  }
}

function replace(step: Configuration): Normalizer {
  const content = stringOf(step.content, "");
  const pattern = compilePattern(step);
  return (text) => text.replace(pattern, () => content);
}

function precompiled(step: Configuration): Normalizer {
  const encoded = stringOf(step.precompiled_charsmap, "");
  if (encoded === "") {
    return (text) => text;
  }
  const map = new CharacterMap(encoded);
  return (text) => map.normalize(text);
}

function strip(left: boolean, right: boolean): Normalizer {
  return (text) => {
    let start = 0;
    let end = text.length;
    while (left && start < end && isWhitespace(text.charCodeAt(start))) {
      start++;
    }
    while (right && end > start && isWhitespace(text.charCodeAt(end - 1))) {
      end--;
    }
    return text.slice(start, end);
  };
}

function bertNormalizer(step: Configuration): Normalizer {
  const cleans = booleanOf(step.clean_text, true);
  const spaces = booleanOf(step.handle_chinese_chars, true);
  const lowers = booleanOf(step.lowercase, true);
  const strips = booleanOf(step.strip_accents, lowers);
  return (text) => {
    if (PRINTABLE_ASCII.test(text)) {
      return lowers ? text.toLowerCase() : text;
    }
    let result = cleans ? cleanText(text) : text;
    if (spaces) {
      result = spaceChinese(result);
    }
    if (strips) {
      result = without(normalizeTo("NFD", result), nonspacingMarks());
    }
    return lowers ? toLowerCase(result) : result;
  };
}

function cleanText(text: string): string {
  return replaceCharacters(without(text, controls()), (code) => code !== 0x20 && isWhitespace(code), () => " ");
}

function spaceChinese(text: string): string {
  return replaceCharacters(text, (code) => code >= 0x3400 && isChinese(code), (character) => ` ${character} `);
}
