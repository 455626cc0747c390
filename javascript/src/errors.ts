/**
 * The errors of this package, in the sense of those of the Python package.
 *
 * MonographError
 * ├── BundleError   a bundle is missing, damaged, or in a format that this release does not read
 * ├── DeviceError   the engine cannot run here
 * └── InputError    a text or an option of a call is not valid
 */

const MAX_MESSAGE = 4_000;
const MAX_QUOTE = 1_000;
// Spaces of other widths, and the joiners within words of Persian and Hindi.
const HARMLESS = "\\u00a0\\u1680\\u2000-\\u200a\\u200c\\u200d\\u202f\\u205f\\u3000";
const UNPRINTABLE = new RegExp(
  `(?![${HARMLESS}])[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\p{Cn}\\p{Zl}\\p{Zp}]|(?![${HARMLESS}\\u0020])\\p{Zs}`,
  "gu",
);

/** Base class of all errors of this package; the message is one line of bounded length. */
export class MonographError extends Error {
  override readonly name: string = "MonographError";

  constructor(message: string, options?: ErrorOptions) {
    super(printable(message, MAX_MESSAGE), options);
  }
}

/** A bundle cannot be used; `problems` has everything that is wrong with it. */
export class BundleError extends MonographError {
  override readonly name = "BundleError";

  constructor(
    readonly bundle: string,
    readonly problems: readonly string[],
    options?: ErrorOptions,
  ) {
    super(`bundle ${bundle}: ${problems.join("; ")}`, options);
  }
}

/** The engine cannot run here; there is no silent fallback. */
export class DeviceError extends MonographError {
  override readonly name = "DeviceError";
}

/** A text or an option of a call is not valid. */
export class InputError extends MonographError {
  override readonly name = "InputError";
}

/** The first line of a foreign error's message, its type if the message is empty. */
export function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message.trim() || error.name : String(error);
  return printable(message.split("\n", 1)[0] ?? "", MAX_QUOTE);
}

/** Foreign text as it may be printed: on one line, without characters that control a terminal, and short. */
export function printable(text: string, limit = MAX_MESSAGE): string {
  let short = text;
  if (text.length > limit) {
    const end = Math.floor(limit / 4);
    short = `${text.slice(0, limit - end)}… ${text.length - limit} characters … ${text.slice(-end)}`;
  }
  return short.replace(UNPRINTABLE, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}
