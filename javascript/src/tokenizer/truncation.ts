/** Which tokens of a text or pair stay, if special tokens and they are more than a model takes. */

import { isObject, numberOf, TokenizerError } from "./configuration.js";

type Strategy = "LongestFirst" | "OnlyFirst" | "OnlySecond";

export interface Truncation {
  readonly maxLength: number;
  readonly strategy: Strategy;
  /** The side that tokens are removed from. */
  readonly side: "Left" | "Right";
}

/** The `truncation` of a tokenizer.json; undefined if texts are not truncated. */
export function readTruncation(value: unknown): Truncation | undefined {
  if (!isObject(value)) {
    return undefined;
  }
  const { strategy = "LongestFirst", direction: side = "Right" } = value;
  if (strategy !== "LongestFirst" && strategy !== "OnlyFirst" && strategy !== "OnlySecond") {
    throw new TokenizerError(`its truncation.strategy is ${String(strategy)}, which this package does not have`);
  }
  if (side !== "Left" && side !== "Right") {
    throw new TokenizerError(`its truncation.direction is ${String(side)}, which this package does not have`);
  }
  return { maxLength: numberOf(value.max_length, 0), strategy, side };
}

/** Cut the tokens of the texts (one or two) to those that stay beside so many special tokens. */
export function truncate(texts: number[][], specialTokens: number, truncation: Truncation): number[][] {
  const room = truncation.maxLength - specialTokens;
  const lengths = texts.map((ids) => ids.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  if (total <= room) {
    return texts;
  }
  const cut = lengthsWithin(room, lengths, truncation.strategy);
  return texts.map((ids, position) => {
    const length = cut[position];
    return truncation.side === "Right" ? ids.slice(0, length) : ids.slice(ids.length - length);
  });
}

function lengthsWithin(room: number, lengths: readonly number[], strategy: Strategy): number[] {
  if (room <= 0) {
    return lengths.map(() => 0);
  }
  if (strategy === "LongestFirst") {
    return lengths.length === 1 ? [room] : longestFirst(room, lengths[0], lengths[1]);
  }
  const target = strategy === "OnlyFirst" ? 0 : 1;
  const excess = lengths.reduce((sum, length) => sum + length, 0) - room;
  if (lengths.length <= target || lengths[target] <= excess) {
    throw new TokenizerError("a text is too short to be truncated as the file says");
  }
  return lengths.map((length, position) => (position === target ? length - excess : length));
}

/** Only the longer text is cut, as long as it stays the longer one; then both get a half, the longer the odd token. */
function longestFirst(room: number, first: number, second: number): number[] {
  let shorter = Math.min(first, second);
  let longer = shorter > room ? shorter : Math.max(shorter, room - shorter);
  if (shorter + longer > room) {
    shorter = Math.floor(room / 2);
    longer = shorter + (room % 2);
  }
  return first > second ? [longer, shorter] : [shorter, longer];
}
