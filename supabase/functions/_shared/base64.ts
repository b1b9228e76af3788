/**
 * Decodes base64url without padding; `null` for any other text, including one with non-zero
 * trailing bits.
 */
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

/** Decodes base64. Throws a `DOMException` for any other text. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return bytesOf(atob(text));
}

/**
 * A loop, since `Uint8Array.from` creates an object for each character, a fifth of all garbage of a
 * request.
 */
function bytesOf(binary: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = binary.charCodeAt(i);
  }
  return bytes;
}

/**
 * Encodes a few hundred bytes as base64. They become arguments of one call, so there must not be
 * many.
 */
export function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
