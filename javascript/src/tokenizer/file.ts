/** Read a bundle's tokenizer.json, which is foreign: with a bound on its size, and without settings that take too long. */

import { checkValues, decodeUtf8, JsonError } from "../bundle/json.js";
import { firstLine } from "../errors.js";
import { TokenizerError } from "./configuration.js";
import { checkSettings } from "./settings.js";
import { Tokenizer } from "./tokenizer.js";

// Four times what the largest published ones have, of 262,144 tokens.
const MAX_BYTES = 128 * 2 ** 20;
// Half more than these have.
const MAX_VALUES = 3_000_000;

/** Make a tokenizer of a file's content; what is wrong with it is thrown as what `problem` makes of it. */
export function readTokenizerFile(content: Uint8Array, problem: (why: string) => Error): Tokenizer {
  try {
    if (content.length > MAX_BYTES) {
      throw new TokenizerError(`it has ${content.length} bytes, and at most ${MAX_BYTES} are read`);
    }
    checkValues(content, MAX_VALUES);
    const file: unknown = JSON.parse(decodeUtf8(content));
    checkSettings(file);
    return new Tokenizer(file);
  } catch (error) {
    if (error instanceof TokenizerError || error instanceof JsonError || error instanceof SyntaxError) {
      throw problem(firstLine(error));
    }
    throw error;
  }
}
