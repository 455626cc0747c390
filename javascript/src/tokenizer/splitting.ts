/** Cut a word where something matches, in the five ways that the Rust tokenizers have. */

import type { Word } from "./pre-tokenizers.js";

export type Behavior = "Removed" | "Isolated" | "MergedWithPrevious" | "MergedWithNext" | "Contiguous";

/** The end of a part, which begins where the one before ends, and whether it matches. */
interface Part {
  readonly end: number;
  readonly matches: boolean;
}

/** Cut where a character, by its code point, matches; each is a match of its own. */
export function splitBy(word: Word, matches: (code: number) => boolean, behavior: Behavior): Word[] {
  const parts: Part[] = [];
  const { text } = word;
  let start = 0;
  for (let place = 0; place < text.length; ) {
    const code = text.codePointAt(place) ?? 0;
    const next = place + (code > 0xffff ? 2 : 1);
    if (matches(code)) {
      if (place > start) {
        parts.push({ end: place, matches: false });
      }
      parts.push({ end: next, matches: true });
      start = next;
    }
    place = next;
  }
  if (text.length > start) {
    parts.push({ end: text.length, matches: false });
  }
  return join(word, parts, behavior);
}

/** Cut where a global pattern matches, or with `inverts` where it does not. */
export function splitByPattern(word: Word, pattern: RegExp, behavior: Behavior, inverts: boolean): Word[] {
  const parts: Part[] = [];
  let start = 0;
  for (const match of word.text.matchAll(pattern)) {
    if (match.index > start) {
      parts.push({ end: match.index, matches: inverts });
    }
    start = match.index + match[0].length;
    parts.push({ end: start, matches: !inverts });
  }
  if (word.text.length > start) {
    parts.push({ end: word.text.length, matches: inverts });
  }
  return join(word, parts, behavior);
}

function join({ text, first }: Word, parts: readonly Part[], behavior: Behavior): Word[] {
  const words: Word[] = [];
  let start = 0;
  parts.forEach(({ end, matches }, position) => {
    if (matches && behavior === "Removed") {
      start = end;
    } else if (!joinsNext(matches, parts[position + 1], behavior)) {
      if (end > start) {
        words.push({ text: text.slice(start, end), first: first && start === 0 });
      }
      start = end;
    }
  });
  return words;
}

/** Whether a part and the next are one word. */
function joinsNext(matches: boolean, next: Part | undefined, behavior: Behavior): boolean {
  if (next === undefined) {
    return false;
  }
  switch (behavior) {
    case "MergedWithPrevious":
      return !matches && next.matches;
    case "MergedWithNext":
      return matches && !next.matches;
    case "Contiguous":
      return matches === next.matches;
    default:
      return false;
  }
}
