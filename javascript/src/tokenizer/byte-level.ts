/** The characters that stand for bytes in byte-level vocabularies: printable ones, a byte each. */

const CHARACTERS = makeCharacters();
const encoder = new TextEncoder();

function makeCharacters(): string[] {
  const isPrintable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 0x100 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

/** A text as the characters of its bytes in UTF-8. */
export function byteCharacters(text: string): string {
  let result = "";
  for (const byte of encoder.encode(text)) {
    result += CHARACTERS[byte];
  }
  return result;
}
