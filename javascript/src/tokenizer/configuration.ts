/** Read the parts of a parsed tokenizer.json, which is foreign: what has another type is as good as absent. */

export type Configuration = { readonly [name: string]: unknown };

/** What a tokenizer's file asks for and this package does not have, or what makes no sense. */
export class TokenizerError extends Error {}

export function isObject(value: unknown): value is Configuration {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function objectOf(value: unknown): Configuration {
  return isObject(value) ? value : {};
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function stringOf(value: unknown, otherwise: string): string {
  return typeof value === "string" ? value : otherwise;
}

export function booleanOf(value: unknown, otherwise: boolean): boolean {
  return typeof value === "boolean" ? value : otherwise;
}

export function numberOf(value: unknown, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}

/** The steps of a normalizer, pre-tokenizer or post-processor: of a sequence its parts, of anything else itself. */
export function stepsOf(value: unknown, name: string): Configuration[] {
  if (!isObject(value)) {
    return [];
  }
  return value.type === "Sequence" ? listOf(value[name]).flatMap((step) => stepsOf(step, name)) : [value];
}
