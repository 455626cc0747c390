/** Base64 as bytes. */

const VALID = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** Decode base64 strictly, only what an encoder writes; undefined if it is not valid. */
export function decodeBase64(text: string): Uint8Array | undefined {
  return VALID.test(text) ? bytesOf(text) : undefined;
}

/** Decode base64 as `atob` does; throws its `DOMException` if it is not valid. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place++) {
    bytes[place] = binary.charCodeAt(place);
  }
  return bytes;
}
