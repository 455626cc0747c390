/**
 * Parse JSON strictly: without what readers understand differently, and with a bound on the number of values.
 *
 * JSON.parse takes the last of several equal names and does not distinguish 1 and 1.0, so it is not used for what decides
 * whether a bundle is valid.
 */

/** A number with a decimal point or exponent. */
export class Real {
  constructor(readonly value: number) {}
}

export type JsonObject = ReadonlyMap<string, JsonValue>;
export type JsonValue = null | boolean | string | number | Real | readonly JsonValue[] | JsonObject;

export class JsonError extends Error {}

const MAX_VALUES = 1_000_000;
const MAX_DEPTH = 900;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const SPACES = /[ \t\n\r]*/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPED = /[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\u0000-\u001f]*)*/y;
const SEPARATORS = [0x5b, 0x7b, 0x2c]; // [ { ,

/** Parse UTF-8 JSON of at most so many values; throws `JsonError`. */
export function parseJson(content: Uint8Array, maxValues = MAX_VALUES): JsonValue {
  checkValues(content, maxValues);
  return new Parser(decodeUtf8(content)).parse();
}

/** Throw `JsonError` if JSON has more than so many values, counted by separators, those within strings included. */
export function checkValues(content: Uint8Array, maxValues: number): void {
  // A smaller file cannot have as many.
  if (content.length <= maxValues) {
    return;
  }
  let count = 0;
  for (const byte of content) {
    if (SEPARATORS.includes(byte) && ++count > maxValues) {
      throw new JsonError(`it has more than ${maxValues} values`);
    }
  }
}

/** Bytes as text; throws `JsonError` if they are not UTF-8, or begin with a byte order mark. */
export function decodeUtf8(content: Uint8Array): string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content);
  } catch (error) {
    throw new JsonError("it is not UTF-8", { cause: error });
  }
  if (text.startsWith("\ufeff")) {
    throw new JsonError("it begins with a byte order mark");
  }
  return text;
}

class Parser {
  #place = 0;
  #depth = 0;

  constructor(private readonly text: string) {}

  parse(): JsonValue {
    const value = this.#value();
    this.#skipSpaces();
    if (this.#place < this.text.length) {
      throw this.#error();
    }
    return value;
  }

  #value(): JsonValue {
    this.#skipSpaces();
    switch (this.text[this.#place]) {
      case "{":
        return this.#nested(() => this.#object());
      case "[":
        return this.#nested(() => this.#list());
      case '"':
        return this.#string();
      case "t":
        return this.#word("true", true);
      case "f":
        return this.#word("false", false);
      case "n":
        return this.#word("null", null);
      default:
        return this.#number();
    }
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > MAX_DEPTH) {
      throw new JsonError("it is nested too deeply");
    }
    this.#place++;
    const value = read();
    this.#depth--;
    return value;
  }

  #object(): JsonObject {
    const values = new Map<string, JsonValue>();
    if (this.#takes("}")) {
      return values;
    }
    do {
      this.#skipSpaces();
      const name = this.#string();
      if (values.has(name)) {
        throw new JsonError(`the name ${JSON.stringify(name)} is there twice`);
      }
      this.#expect(":");
      values.set(name, this.#value());
    } while (this.#takes(","));
    this.#expect("}");
    return values;
  }

  #list(): JsonValue[] {
    const values: JsonValue[] = [];
    if (this.#takes("]")) {
      return values;
    }
    do {
      values.push(this.#value());
    } while (this.#takes(","));
    this.#expect("]");
    return values;
  }

  #string(): string {
    const start = this.#place;
    if (this.text[start] !== '"') {
      throw this.#error();
    }
    let end = this.#match(PLAIN, start + 1);
    const isPlain = this.text[end] === '"';
    if (!isPlain) {
      end = this.#match(ESCAPED, start + 1);
    }
    if (this.text[end] !== '"') {
      this.#place = end;
      throw this.#error();
    }
    this.#place = end + 1;
    if (isPlain) {
      return this.text.slice(start + 1, end);
    }
    const value = JSON.parse(this.text.slice(start, end + 1)) as string;
    if (!value.isWellFormed()) {
      throw new JsonError("a string holds a lone surrogate");
    }
    return value;
  }

  #number(): number | Real {
    NUMBER.lastIndex = this.#place;
    const match = NUMBER.exec(this.text);
    if (match === null) {
      throw this.#error();
    }
    const value = Number(match[0]);
    if (!Number.isFinite(value)) {
      throw new JsonError(`${match[0].slice(0, 30)} is too large a number`);
    }
    this.#place = NUMBER.lastIndex;
    return match[1] === undefined && match[2] === undefined ? value : new Real(value);
  }

  #word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.#place)) {
      throw this.#error();
    }
    this.#place += word.length;
    return value;
  }

  #takes(character: string): boolean {
    this.#skipSpaces();
    if (this.text[this.#place] !== character) {
      return false;
    }
    this.#place++;
    return true;
  }

  #expect(character: string): void {
    if (!this.#takes(character)) {
      throw this.#error();
    }
  }

  #skipSpaces(): void {
    this.#place = this.#match(SPACES, this.#place);
  }

  #match(pattern: RegExp, start: number): number {
    pattern.lastIndex = start;
    pattern.exec(this.text);
    return pattern.lastIndex;
  }

  #error(): JsonError {
    return new JsonError(`it is not valid at character ${this.#place}`);
  }
}
