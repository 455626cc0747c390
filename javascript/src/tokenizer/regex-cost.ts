/**
 * Bound what a regular expression of a tokenizer may cost.
 *
 * Regular expressions are matched by backtracking. A pattern passes if a match attempt at one position takes time in
 * proportion to the text: then no ordinary text takes long. The patterns of published tokenizers do, with room.
 *
 * The *ways* of a pattern are how many combinations of optional parts and alternatives may be tried, its *steps* what
 * that takes beside the unlimited repetitions; its *runs* are those that have to be shortened, character by character,
 * where something behind them fails. One run is linear, two are quadratic; a repetition of what has several ways is
 * exponential. Its *retries* are the steps for each character of a run. Those of all patterns of a tokenizer count
 * together.
 */

import { TokenizerError } from "./configuration.js";

const MAX_CHARACTERS = 20_000;
const MAX_STEPS = 5_000;
// What the patterns of GPT-4 and the like need is below 25.
const MAX_RETRIES = 40;
const MAX_RUNS = 1;
const MAX_DEPTH = 50;
// A bounded repetition up to here counts by its ways, a longer one as unlimited.
const MAX_COUNTED = 32;
const BOUNDS = /\{(\d*)(,?)(\d*)\}/y;
// Groups that match no text of their own, name one, or only set options; "x" would change how the rest is read.
const GROUP = /\(\?(?:[:=!>|]|<[=!]|<\w+>|'\w+'|[imsaudn-]*[:)])/y;
const COMMENT = /\(\?#[^)]*\)/y;
// Escapes that refer to a group.
const REFERENCE = /\\(?:[1-9]|[kg][<'])/y;
const ESCAPE = /\\(?:[pP]\{[^}]*\}|x\{[^}]*\}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|.)/sy;

/** Of a part: its ways, the runs that something behind them may shorten, and whether it may match nothing. */
interface Cost {
  readonly ways: number;
  readonly runs: number;
  readonly optional: boolean;
  readonly steps: number;
  readonly retries: number;
}

const ONE: Cost = { ways: 1, runs: 0, optional: false, steps: 1, retries: 0 };

/** What the patterns of one tokenizer may cost together. */
export class PatternBudget {
  #steps = 0;
  #retries = 0;

  /** Throw `TokenizerError` unless a match attempt takes time in proportion to the text, and not much. */
  spend(pattern: string): void {
    const refuse = (why: string): TokenizerError =>
      new TokenizerError(`the regular expression ${JSON.stringify(pattern.slice(0, 100))} is refused: ${why}`);
    if (pattern.length > MAX_CHARACTERS) {
      throw refuse(`it has ${pattern.length} characters`);
    }
    const cost = new Reader(pattern, refuse).read();
    this.#steps += cost.steps;
    this.#retries += cost.retries;
    if (this.#steps > MAX_STEPS) {
      throw refuse(`it has more than ${MAX_STEPS} ways to match`);
    }
    if (this.#retries > MAX_RETRIES) {
      throw refuse("it has too many ways to shorten an unlimited repetition");
    }
  }
}

interface Repetition {
  readonly minimum: number;
  readonly maximum: number;
  readonly possessive: boolean;
}

class Reader {
  #place = 0;
  #depth = 0;

  constructor(
    private readonly pattern: string,
    private readonly refuse: (why: string) => TokenizerError,
  ) {}

  read(): Cost {
    const cost = this.#readAlternatives();
    if (this.#place < this.pattern.length) {
      throw this.refuse("a parenthesis is closed that was not opened");
    }
    return cost;
  }

  /** Read up to the end of a group, or of the pattern. */
  #readAlternatives(): Cost {
    const alternatives = [this.#readSequence()];
    while (this.#next() === "|") {
      this.#place++;
      alternatives.push(this.#readSequence());
    }
    const total = (key: "ways" | "steps" | "retries"): number =>
      alternatives.reduce((sum, cost) => sum + cost[key], 0);
    this.#checkSteps(total("steps"));
    return {
      ways: total("ways"),
      runs: Math.max(...alternatives.map(({ runs }) => runs)),
      optional: alternatives.some(({ optional }) => optional),
      steps: total("steps"),
      retries: total("retries"),
    };
  }

  #readSequence(): Cost {
    let [ways, runs, optional, steps, retries] = [1, 0, true, 0, 0];
    // Runs at the end: nothing behind them fails, so they are not shortened.
    let trailing = 0;
    // The steps of all but the optional parts at the end.
    let failingSteps = 0;
    for (let next = this.#next(); next !== "" && next !== "|" && next !== ")"; next = this.#next()) {
      const cost = this.#readRepeated();
      if (cost === undefined) {
        continue;
      }
      const isFirm = !cost.optional || cost.runs > 0;
      if (isFirm) {
        runs += trailing;
        trailing = 0;
      }
      trailing += cost.runs;
      steps += ways * cost.steps;
      retries += ways * cost.retries;
      ways *= cost.ways;
      optional &&= cost.optional;
      if (isFirm) {
        failingSteps = steps;
      }
      this.#checkSteps(steps);
      if (runs > MAX_RUNS) {
        throw this.refuse("it has several unlimited repetitions in a row before something else");
      }
    }
    if (runs > 0) {
      retries += failingSteps;
    }
    return { ways, runs: runs + trailing, optional, steps, retries };
  }

  /** Read a character, class or group with its repetition; undefined for options and comments. */
  #readRepeated(): Cost | undefined {
    const cost = this.#readAtom();
    const repetition = this.#readRepetition();
    if (cost === undefined || repetition === undefined) {
      return cost;
    }
    const { minimum, maximum, possessive } = repetition;
    if (this.#readRepetition() !== undefined) {
      throw this.refuse("it repeats a repetition");
    }
    const optional = cost.optional || minimum === 0;
    if (maximum === 1) {
      return { ...cost, ways: cost.ways + (minimum === 0 ? 1 : 0), optional };
    }
    if (cost.ways !== 1 || cost.runs !== 0) {
      throw this.refuse("it repeats a group that can match in several ways");
    }
    const isBounded = maximum !== Infinity;
    if (isBounded && (possessive || maximum === minimum)) {
      return { ...cost, optional, steps: maximum * cost.steps };
    }
    if (possessive) {
      // It reads to its end at once, and is not shortened.
      return { ...cost, optional, retries: cost.retries + 1 };
    }
    return isBounded && maximum <= MAX_COUNTED
      ? { ...cost, ways: maximum - minimum + 1, optional, steps: maximum * cost.steps }
      : { ...cost, runs: 1, optional };
  }

  #readRepetition(): Repetition | undefined {
    const next = this.#next();
    if (next === "*" || next === "+" || next === "?") {
      this.#place++;
      const suffix = this.#next();
      if (suffix === "?" || suffix === "+") {
        this.#place++;
      }
      return { minimum: next === "+" ? 1 : 0, maximum: next === "?" ? 1 : Infinity, possessive: suffix === "+" };
    }
    const bounds = next === "{" ? this.#match(BOUNDS) : null;
    if (bounds === null || (bounds[1] === "" && bounds[3] === "")) {
      return undefined;
    }
    this.#place += bounds[0].length;
    if (this.#next() === "?") {
      this.#place++;
    }
    const minimum = Number(bounds[1] || 0);
    if (bounds[2] === "") {
      return { minimum, maximum: minimum, possessive: false };
    }
    return { minimum, maximum: bounds[3] === "" ? Infinity : Number(bounds[3]), possessive: false };
  }

  #readAtom(): Cost | undefined {
    const character = this.#next();
    if (character === "(") {
      return this.#readGroup();
    }
    if (character === "[") {
      this.#skipClass();
      return ONE;
    }
    if (character === "\\") {
      if (this.#match(REFERENCE) !== null) {
        throw this.refuse("it refers to a group");
      }
      const escape = this.#match(ESCAPE);
      if (escape === null) {
        throw this.refuse("it ends in a backslash");
      }
      this.#place += escape[0].length;
      // A line break, or a character of several code points.
      return escape[0] === "\\R" || escape[0] === "\\X" ? { ...ONE, ways: 2 } : ONE;
    }
    this.#place++;
    return character === "^" || character === "$" ? { ...ONE, optional: true } : ONE;
  }

  #readGroup(): Cost | undefined {
    const comment = this.#match(COMMENT);
    if (comment !== null) {
      this.#place += comment[0].length;
      return undefined;
    }
    const opening = this.#match(GROUP)?.[0];
    const start = this.pattern.slice(this.#place, this.#place + 4);
    if (opening === undefined && (start.startsWith("(?") || start.startsWith("(*"))) {
      throw this.refuse(`it has the group ${JSON.stringify(start)}`);
    }
    this.#place += opening?.length ?? 1;
    if (opening?.endsWith(")") === true) {
      return undefined;
    }
    this.#depth++;
    if (this.#depth > MAX_DEPTH) {
      throw this.refuse("its groups are nested too deeply");
    }
    const cost = this.#readAlternatives();
    this.#depth--;
    if (this.#next() !== ")") {
      throw this.refuse("a parenthesis is not closed");
    }
    this.#place++;
    // What follows a look-around starts where this did, so that every run of it is repeated there.
    const isLookAround = opening !== undefined && /[=!]$/.test(opening);
    return isLookAround ? { ...cost, retries: cost.retries + cost.runs } : cost;
  }

  /** Skip a class of characters, in which others may be nested. */
  #skipClass(): void {
    let depth = 0;
    let isStart = true;
    while (this.#place < this.pattern.length) {
      const character = this.#next();
      this.#place++;
      if (character === "\\") {
        this.#place++;
      } else if (character === "[") {
        depth++;
        isStart = true;
        if (this.#next() === "^") {
          this.#place++;
        }
        continue;
      } else if (character === "]" && !isStart) {
        depth--;
        if (depth === 0) {
          return;
        }
      }
      isStart = false;
    }
    throw this.refuse("a class is not closed");
  }

  #checkSteps(steps: number): void {
    if (steps > MAX_STEPS) {
      throw this.refuse(`it has more than ${MAX_STEPS} ways to match`);
    }
  }

  #match(expression: RegExp): RegExpExecArray | null {
    expression.lastIndex = this.#place;
    return expression.exec(this.pattern);
  }

  #next(): string {
    return this.pattern.charAt(this.#place);
  }
}
