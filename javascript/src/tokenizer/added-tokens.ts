/** Added tokens: those that are found in a text as they are, before or after it is normalized. */

import { booleanOf, listOf, numberOf, objectOf, stringOf } from "./configuration.js";
import type { Normalizer } from "./normalizers.js";
import { isWhitespace } from "./unicode.js";

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly singleWord: boolean;
  readonly stripsLeft: boolean;
  readonly stripsRight: boolean;
  readonly normalized: boolean;
}

/** A part of a text: an added token by its id, or text between them. */
export type Section = { readonly id: number } | { readonly text: string; readonly first: boolean };

const WORD_CHARACTER = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

/** The `added_tokens` of a tokenizer.json. */
export function readAddedTokens(value: unknown): AddedToken[] {
  return listOf(value)
    .map(objectOf)
    .map((token) => ({
      id: numberOf(token.id, -1),
      content: stringOf(token.content, ""),
      singleWord: booleanOf(token.single_word, false),
      stripsLeft: booleanOf(token.lstrip, false),
      stripsRight: booleanOf(token.rstrip, false),
      normalized: booleanOf(token.normalized, !booleanOf(token.special, false)),
    }))
    .filter(({ content, id }) => content !== "" && id >= 0);
}

/** Cuts texts at some added tokens: at each place at the longest. */
export class AddedTokenSplitter {
  // By their first unit, the longest first.
  readonly #tokens = new Map<number, { content: string; token: AddedToken }[]>();

  constructor(tokens: readonly AddedToken[], normalize: Normalizer = (text) => text) {
    for (const token of tokens) {
      const content = normalize(token.content);
      if (content === "") {
        continue;
      }
      const first = content.charCodeAt(0);
      const others = this.#tokens.get(first) ?? [];
      others.push({ content, token });
      this.#tokens.set(first, others);
    }
    for (const others of this.#tokens.values()) {
      others.sort((one, other) => other.content.length - one.content.length);
    }
  }

  split(text: string, first: boolean): Section[] {
    if (this.#tokens.size === 0) {
      return text === "" ? [] : [{ text, first }];
    }
    const sections: Section[] = [];
    // The end of the last section.
    let done = 0;
    const addText = (end: number): void => {
      if (end > done) {
        sections.push({ text: text.slice(done, end), first: first && done === 0 });
      }
    };
    for (let place = 0; place < text.length; ) {
      const found = this.#tokens.get(text.charCodeAt(place))?.find(({ content }) => text.startsWith(content, place));
      if (found === undefined) {
        place++;
        continue;
      }
      const [start, end] = [place, place + found.content.length];
      place = end;
      const { token } = found;
      if (token.singleWord && (endsInWord(text, start) || beginsWord(text, end))) {
        continue;
      }
      addText(token.stripsLeft ? Math.max(done, spacesBefore(text, start)) : start);
      sections.push({ id: token.id });
      done = token.stripsRight ? spacesAfter(text, end) : end;
    }
    addText(text.length);
    return sections;
  }
}

function endsInWord(text: string, end: number): boolean {
  const character = Array.from(text.slice(Math.max(0, end - 2), end)).at(-1);
  return character !== undefined && WORD_CHARACTER.test(character);
}

function beginsWord(text: string, start: number): boolean {
  const code = text.codePointAt(start);
  return code !== undefined && WORD_CHARACTER.test(String.fromCodePoint(code));
}

function spacesBefore(text: string, end: number): number {
  let start = end;
  while (start > 0 && isWhitespace(text.charCodeAt(start - 1))) {
    start--;
  }
  return start;
}

function spacesAfter(text: string, start: number): number {
  let end = start;
  while (end < text.length && isWhitespace(text.charCodeAt(end))) {
    end++;
  }
  return end;
}
