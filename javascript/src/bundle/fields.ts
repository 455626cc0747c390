/** Read JSON objects, noting every problem instead of stopping at the first. */

import { type JsonObject, type JsonValue, Real } from "./json.js";

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map;
}

export function isInteger(value: JsonValue | undefined): value is number {
  return typeof value === "number";
}

function isString(value: JsonValue | undefined): value is string {
  return typeof value === "string";
}

function isNumber(value: JsonValue | undefined): value is number | Real {
  return isInteger(value) || value instanceof Real;
}

function numberOf(value: number | Real): number {
  return value instanceof Real ? value.value : value;
}

function isList(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}

/** One JSON object; a missing or mistyped field is noted in `problems` under its dotted name. */
export class Fields {
  readonly #values: JsonObject;

  constructor(
    value: JsonValue | undefined,
    readonly name: string,
    readonly problems: string[],
  ) {
    if (isObject(value)) {
      this.#values = value;
    } else {
      this.#values = new Map();
      problems.push(`${name || "the file"} must be an object`);
    }
  }

  /** Whether a field is there and not null. */
  has(key: string): boolean {
    return (this.#values.get(key) ?? null) !== null;
  }

  string(key: string): string {
    return this.#need(key, isString, "a string", "");
  }

  integer(key: string): number {
    return this.#need(key, isInteger, "an integer", 0);
  }

  boolean(key: string): boolean {
    return this.#need(key, (value) => typeof value === "boolean", "true or false", false);
  }

  /** A number with a decimal point or without. */
  number(key: string): number {
    return numberOf(this.#need(key, isNumber, "a number", 0));
  }

  /** An optional field, absent or null if it is not there. */
  optional<T>(key: string, read: (fields: this, key: string) => T): T | undefined {
    return this.has(key) ? read(this, key) : undefined;
  }

  optionalString(key: string): string | undefined {
    return this.optional(key, (fields) => fields.string(key));
  }

  optionalInteger(key: string): number | undefined {
    return this.optional(key, (fields) => fields.integer(key));
  }

  strings(key: string): readonly string[] {
    return this.#list(key, isString, "strings only");
  }

  integers(key: string): readonly number[] {
    return this.#list(key, isInteger, "integers only");
  }

  numbers(key: string): readonly number[] {
    return this.#list(key, isNumber, "numbers only").map(numberOf);
  }

  /** A list of sizes and names of axes. */
  shape(key: string): readonly (string | number)[] {
    const isAxis = (value: JsonValue | undefined): value is string | number => isString(value) || isInteger(value);
    return this.#list(key, isAxis, "integers and strings only");
  }

  /** A list of strings, or of lists of two strings, which are pairs. */
  inputs(key: string): readonly (string | readonly [string, string])[] {
    const values = this.#need(key, isList, "a list", []);
    if (values.every(isString)) {
      return values as readonly string[];
    }
    const isPair = (value: JsonValue): boolean => isList(value) && value.length === 2 && value.every(isString);
    if (values.every(isPair)) {
      return values as readonly (readonly [string, string])[];
    }
    this.problems.push(`${this.path(key)} must hold strings only, or lists of two strings only`);
    return [];
  }

  stringMap(key: string): ReadonlyMap<string, string> {
    return this.#map(key, isString, "strings only");
  }

  integerMap(key: string): ReadonlyMap<string, number> {
    return this.#map(key, isInteger, "integers only");
  }

  numberMap(key: string): ReadonlyMap<string, number> {
    const values = this.#map(key, isNumber, "numbers only");
    return new Map([...values].map(([name, value]) => [name, numberOf(value)]));
  }

  /** A required nested object. */
  child(key: string): Fields {
    return new Fields(this.#need(key, isObject, "an object", new Map()), this.path(key), this.problems);
  }

  /** The objects of a required list. */
  children(key: string): Fields[] {
    const values = this.#need(key, isList, "a list", []);
    return values.map((value, place) => new Fields(value, `${this.path(key)}[${place}]`, this.problems));
  }

  /** Two lists of numbers. */
  pairOfNumbers(key: string): readonly [readonly number[], readonly number[]] {
    const values = this.#need(key, isList, "a list", []);
    if (values.length !== 2) {
      this.problems.push(`${this.path(key)} must be a list of 2`);
      return [[], []];
    }
    const entries = new Fields(new Map(values.map((value, place) => [String(place), value])), this.path(key), this.problems);
    return [entries.numbers("0"), entries.numbers("1")];
  }

  /** An object of objects; one that has problems is left out, because others would look wrong beside it. */
  childMap<T>(key: string, read: (fields: Fields) => T): ReadonlyMap<string, T> {
    const entries = new Map<string, T>();
    for (const [name, value] of this.#need(key, isObject, "an object", new Map<string, JsonValue>())) {
      const noted = this.problems.length;
      const entry = read(new Fields(value, `${this.path(key)}.${name}`, this.problems));
      if (this.problems.length === noted) {
        entries.set(name, entry);
      }
    }
    return entries;
  }

  path(key: string): string {
    return this.name === "" ? key : `${this.name}.${key}`;
  }

  #need<T extends JsonValue>(
    key: string,
    isType: (value: JsonValue | undefined) => value is T,
    type: string,
    otherwise: T,
  ): T {
    const value = this.#values.get(key);
    if (isType(value)) {
      return value;
    }
    this.problems.push(value === undefined ? `${this.path(key)} is missing` : `${this.path(key)} must be ${type}`);
    return otherwise;
  }

  #list<T extends JsonValue>(
    key: string,
    isType: (value: JsonValue | undefined) => value is T,
    type: string,
  ): readonly T[] {
    const values = this.#need(key, isList, "a list", []);
    if (values.every(isType)) {
      return values as readonly T[];
    }
    this.problems.push(`${this.path(key)} must hold ${type}`);
    return [];
  }

  #map<T extends JsonValue>(
    key: string,
    isType: (value: JsonValue | undefined) => value is T,
    type: string,
  ): ReadonlyMap<string, T> {
    const values = this.#need(key, isObject, "an object", new Map<string, JsonValue>());
    if ([...values.values()].every(isType)) {
      return values as ReadonlyMap<string, T>;
    }
    this.problems.push(`${this.path(key)} must hold ${type}`);
    return new Map();
  }
}
