/** Bytes of base64url without padding, or `null` if the text is anything else, non-zero trailing bits included. */
export function fromBase64Url(text: string): Uint8Array<ArrayBuffer> | null {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) {
    return null;
  }
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  if (btoa(binary).replaceAll("=", "").replaceAll("+", "-").replaceAll("/", "_") !== text) {
    return null;
  }
  return bytesOf(binary);
}

/** Bytes of base64. Throws a `DOMException` if the text is none. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return bytesOf(atob(text));
}

/** By a loop: `Uint8Array.from` makes an object a character, a fifth of all that a request leaves to be collected. */
function bytesOf(binary: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = binary.charCodeAt(i);
  }
  return bytes;
}

/** Base64 of a few hundred bytes: they become arguments of one call. */
export function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
