/**
 * Classes of characters and normalization forms as the Rust tokenizers have them.
 *
 * Their tables come from several versions of Unicode, most of them older than a browser's. Where a difference changes
 * tokens of existing characters, the tables are here; properties of regular expressions are used for the others.
 */

import {
  CONTROL,
  MARK,
  NONSPACING_MARK,
  PUNCTUATION,
  UNKNOWN_TO_NFC,
  UNKNOWN_TO_NFD,
  UNKNOWN_TO_NFKC,
  UNKNOWN_TO_NFKD,
} from "./unicode-tables.js";

export type Form = "NFC" | "NFD" | "NFKC" | "NFKD";

const RADIX = 36;
const BMP = 0x10000;

/** A set of code points: those of the basic plane as bytes, the others as ranges. */
export class CharacterClass {
  readonly #basic = new Uint8Array(BMP);
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  constructor(encoded: string) {
    let end = 0;
    for (const part of encoded.split(" ")) {
      const [gap = "0", length = "0"] = part.split(".");
      const start = end + parseInt(gap, RADIX);
      end = start + parseInt(length, RADIX);
      if (start < BMP) {
        this.#basic.fill(1, start, Math.min(end + 1, BMP));
      }
      if (end >= BMP) {
        this.#starts.push(start);
        this.#ends.push(end);
      }
    }
  }

  has(codePoint: number): boolean {
    if (codePoint < BMP) {
      return this.#basic[codePoint] === 1;
    }
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle] < codePoint) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < this.#starts.length && this.#starts[low] <= codePoint;
  }
}

/** A class that is built when it is first needed: few tokenizers need all of them. */
function lazily(encoded: string): () => CharacterClass {
  let built: CharacterClass | undefined;
  return () => (built ??= new CharacterClass(encoded));
}

export const controls = lazily(CONTROL);
export const punctuation = lazily(PUNCTUATION);
export const nonspacingMarks = lazily(NONSPACING_MARK);
export const marks = lazily(MARK);
const unknownTo: { readonly [form in Form]: () => CharacterClass } = {
  NFC: lazily(UNKNOWN_TO_NFC),
  NFD: lazily(UNKNOWN_TO_NFD),
  NFKC: lazily(UNKNOWN_TO_NFKC),
  NFKD: lazily(UNKNOWN_TO_NFKD),
};

/** Whether Rust's `char::is_whitespace` holds: the property White_Space. */
export function isWhitespace(codePoint: number): boolean {
  if (codePoint < 0x80) {
    return codePoint === 0x20 || (codePoint >= 0x09 && codePoint <= 0x0d);
  }
  return (
    codePoint === 0x85 ||
    codePoint === 0xa0 ||
    codePoint === 0x1680 ||
    (codePoint >= 0x2000 && codePoint <= 0x200a) ||
    codePoint === 0x2028 ||
    codePoint === 0x2029 ||
    codePoint === 0x202f ||
    codePoint === 0x205f ||
    codePoint === 0x3000
  );
}

/** The characters that BertNormalizer puts between spaces. */
export function isChinese(codePoint: number): boolean {
  return (
    (codePoint >= 0x4e00 && codePoint <= 0x9fff) ||
    (codePoint >= 0x3400 && codePoint <= 0x4dbf) ||
    (codePoint >= 0xf900 && codePoint <= 0xfaff) ||
    (codePoint >= 0x20000 && codePoint <= 0x2a6df) ||
    (codePoint >= 0x2a700 && codePoint <= 0x2b73f) ||
    (codePoint >= 0x2b740 && codePoint <= 0x2b81f) ||
    (codePoint >= 0x2b920 && codePoint <= 0x2ceaf) ||
    (codePoint >= 0x2f800 && codePoint <= 0x2fa1f)
  );
}

// Nothing below U+00C0 is changed by NFC and NFD, and nothing below U+00A0 by the other two.
const UNCHANGED = /^[\0-\x9f]*$/;

/** A text in a normalization form, by the Unicode of the Rust tokenizers. */
export function normalizeTo(form: Form, text: string): string {
  if (UNCHANGED.test(text)) {
    return text;
  }
  const unknown = unknownTo[form]();
  return replaceCharacters(
    text,
    (code) => code >= 0x378 && unknown.has(code),
    (character) => character,
    (part) => part.normalize(form),
  );
}

/** A text in lower case, character by character: without the final form of sigma, which depends on its neighbours. */
export function toLowerCase(text: string): string {
  return (text.includes("Σ") ? text.replaceAll("Σ", "σ") : text).toLowerCase();
}

/** A text without the characters of a class. */
export function without(text: string, removed: CharacterClass): string {
  return replaceCharacters(text, (code) => removed.has(code), () => "");
}

/** A text in which the characters that match are replaced, and the parts between them are changed by `between`. */
export function replaceCharacters(
  text: string,
  matches: (codePoint: number) => boolean,
  replacement: (character: string) => string,
  between: (part: string) => string = (part) => part,
): string {
  let result = "";
  let start = 0;
  for (let place = 0; place < text.length; ) {
    const code = text.codePointAt(place) ?? 0;
    const next = place + (code >= BMP ? 2 : 1);
    if (matches(code)) {
      result += between(text.slice(start, place)) + replacement(text.slice(place, next));
      start = next;
    }
    place = next;
  }
  return result + between(text.slice(start));
}
