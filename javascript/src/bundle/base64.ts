/** Base64, strictly: only what an encoder writes. */

const VALID = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** Decode base64; undefined if it is not valid. */
export function decodeBase64(text: string): Uint8Array | undefined {
  if (!VALID.test(text)) {
    return undefined;
  }
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place++) {
    bytes[place] = binary.charCodeAt(place);
  }
  return bytes;
}
