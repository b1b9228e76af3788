/** A float32 tensor, row-major. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** The contents of a safetensors file: float32 tensors by name, and texts. */
export interface TensorFile {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** A file without the expected contents. */
export class TensorError extends Error {
  override readonly name = "TensorError";
}

/** The header only describes the data after it, so it is small. */
const MAX_HEADER_BYTES = 1024 * 1024;

/**
 * Reads a safetensors file: the length of a JSON header (8 bytes, little-endian), the header, the
 * numbers. Throws `TensorError`.
 */
export function readSafetensors(bytes: Uint8Array<ArrayBuffer>): TensorFile {
  const header = readHeader(bytes);
  const data = bytes.subarray(8 + header.length);
  const tensors = new Map<string, Tensor>();
  const metadata = new Map<string, string>();
  for (const [name, entry] of Object.entries(header.entries)) {
    if (name === "__metadata__") {
      Object.entries(entry).forEach(([key, text]) => metadata.set(key, String(text)));
    } else {
      tensors.set(name, readTensor(name, entry, data));
    }
  }
  return { tensors, metadata };
}

type Entry = Record<string, unknown>;

function readHeader(bytes: Uint8Array): { length: number; entries: Record<string, Entry> } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length < 8 ? Infinity : Number(view.getBigUint64(0, true));
  if (length > Math.min(MAX_HEADER_BYTES, bytes.length - 8)) {
    throw new TensorError("not a file in safetensors format: its header is cut off");
  }
  try {
    const entries: unknown = JSON.parse(
      new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + length)),
    );
    if (typeof entries === "object" && entries !== null && Object.values(entries).every((entry) => isObject(entry))) {
      return { length, entries: entries as Record<string, Entry> };
    }
  } catch {
    // Reported below.
  }
  throw new TensorError("not a file in safetensors format: its header is no JSON object of objects");
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readTensor(name: string, entry: Entry, data: Uint8Array<ArrayBuffer>): Tensor {
  const { dtype, shape, data_offsets: offsets } = entry;
  const whole = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
  if (dtype !== "F32" || !whole(shape) || !whole(offsets) || offsets.length !== 2) {
    throw new TensorError(`tensor \`${name}\` is not float32`);
  }
  const [begin, end] = offsets;
  const size = shape.reduce((product, n) => product * n, 1);
  if (end > data.length || end - begin !== 4 * size) {
    throw new TensorError(`tensor \`${name}\` is cut off`);
  }
  // A copy is aligned for float32. The machines that run this are little-endian, like the file.
  const values = new Float32Array(data.slice(begin, end).buffer);
  if (!values.every(Number.isFinite)) {
    throw new TensorError(`tensor \`${name}\` holds a number that is not finite`);
  }
  return { shape, data: values };
}
