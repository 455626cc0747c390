/** Check what a caller gives once, at the boundary: texts, pairs of texts, counts and prompts. */

import { InputError } from "./errors.js";

export type Pair = readonly [string, string];

const MAX_THREADS = 4096;

/** A value as an error names it. */
export function describe(value: unknown): string {
  if (value === null || value === undefined || typeof value === "boolean" || typeof value === "number") {
    return String(value);
  }
  return Array.isArray(value) ? "an array" : typeof value === "object" ? (value.constructor?.name ?? "an object") : `a ${typeof value}`;
}

/** One text; `name` is what an error calls it. */
export function checkText(text: unknown, name: string): string {
  if (typeof text !== "string") {
    throw new InputError(`${name} must be a string, got ${describe(text)}`);
  }
  if (!text.isWellFormed()) {
    throw new InputError(`${name} holds a lone surrogate, which no UTF-8 text can: replace it, for example by U+FFFD`);
  }
  return text;
}

/** An array of texts. */
export function checkTexts(texts: unknown, name = "texts"): readonly string[] {
  if (!Array.isArray(texts)) {
    throw new InputError(`${name} must be a string or an array of strings, got ${describe(texts)}`);
  }
  // Not map(), which leaves out the holes of an array.
  return Array.from(texts, (text, position) => checkText(text, `text ${position}`));
}

/** An iterable of texts, each of which is checked when it is read. */
export function checkStream(texts: unknown): AsyncGenerator<string> {
  const isIterable = typeof texts === "object" && texts !== null && (Symbol.iterator in texts || Symbol.asyncIterator in texts);
  if (!isIterable) {
    throw new InputError(`texts must be an iterable of strings, got ${describe(texts)}`);
  }
  return checkEach(texts as Iterable<unknown> | AsyncIterable<unknown>);
}

async function* checkEach(texts: Iterable<unknown> | AsyncIterable<unknown>): AsyncGenerator<string> {
  let position = 0;
  for await (const text of texts) {
    yield checkText(text, `text ${position++}`);
  }
}

/** An array of pairs of texts. */
export function checkPairs(pairs: unknown): readonly Pair[] {
  if (!Array.isArray(pairs)) {
    throw new InputError(`pairs must be an array of pairs of strings, got ${describe(pairs)}`);
  }
  return Array.from(pairs, (pair: unknown, position) => {
    if (!Array.isArray(pair) || pair.length !== 2) {
      throw new InputError(
        `pair ${position} must be two texts, got ${Array.isArray(pair) ? pair.length : describe(pair)}: put each query ` +
          "with its document, [[query, document], ...]",
      );
    }
    const [first, second] = pair;
    return [
      checkText(first, `the first text of pair ${position}`),
      checkText(second, `the second text of pair ${position}`),
    ] as const;
  });
}

/** A count of at least 1, undefined if it is not given. */
export function checkCount(value: unknown, name: string, maximum = Infinity): number | undefined {
  if (value === undefined || value === null) {
    return undefined;
  }
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1) {
    throw new InputError(`${name} must be a positive integer, got ${describe(value)}`);
  }
  if (value > maximum) {
    throw new InputError(`${name} must be at most ${maximum}, got ${value}`);
  }
  return value;
}

export function checkThreads(value: unknown): number | undefined {
  return checkCount(value, "threads", MAX_THREADS);
}

/** The prompt of a call, "" for none: an own one wins over a name, which wins over the model's default. */
export function resolvePrompt(
  prompts: ReadonlyMap<string, string>,
  defaultName: string | undefined,
  name: unknown,
  prompt: unknown,
): string {
  if (prompt !== undefined && prompt !== null) {
    return checkText(prompt, "prompt");
  }
  const chosen = name ?? defaultName;
  if (chosen === undefined) {
    return "";
  }
  const found = typeof chosen === "string" ? prompts.get(chosen) : undefined;
  if (found === undefined) {
    const known = [...prompts.keys()].map((key) => JSON.stringify(key)).join(", ") || "none";
    const given = typeof chosen === "string" ? JSON.stringify(chosen) : describe(chosen);
    throw new InputError(`promptName ${given} is not a prompt of this model; it has: ${known}`);
  }
  return found;
}
