import { fromBase64, toBase64 } from "../base64.ts";

/**
 * Decodes vectors from the database: big-endian float32 in base64, concatenated. Returns a flat
 * array `[n · dim]`.
 */
export function decodeVectors(base64: string, dim: number): Float32Array {
  const bytes = fromBase64(base64);
  if (bytes.length % (4 * dim) !== 0) {
    throw new RangeError(`${bytes.length} bytes are no whole number of vectors of ${dim} float32`);
  }
  const view = new DataView(bytes.buffer);
  const vectors = new Float32Array(bytes.length / 4);
  for (let i = 0; i < vectors.length; i++) {
    vectors[i] = view.getFloat32(4 * i);
  }
  return vectors;
}

/** Encodes a vector for the database. */
export function encodeVector(vector: Float32Array): string {
  const view = new DataView(new ArrayBuffer(4 * vector.length));
  vector.forEach((x, i) => view.setFloat32(4 * i, x));
  return toBase64(new Uint8Array(view.buffer));
}
