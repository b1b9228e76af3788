import type { Tensor } from "./safetensors.ts";

/** GELU in its sigmoid approximation: x σ(1.702 x) (Hendrycks & Gimpel 2016, section 2). */
const GELU_SLOPE = 1.702;

/** Smaller norms are replaced by this one, to avoid a division by zero. */
const MIN_NORM = 1e-6;

/**
 * The upper half of a tower: z = GELU(x W₁ + b₁) W₂ + b₂ + x W₃, and the output is z / max(‖z‖,
 * 1e-6).
 *
 * W₁ `[inputs, h]`, b₁ `[h]`, W₂ `[h, d]`, b₂ `[d]`, W₃ `[inputs, d]`.
 */
export interface Head {
  readonly hiddenWeight: Tensor;
  readonly hiddenBias: Tensor;
  readonly outputWeight: Tensor;
  readonly outputBias: Tensor;
  readonly residual: Tensor;
}

/** Embeds x `[inputs]`. Returns `[d]`, unit norm. Sums are in double precision. */
export function embed(head: Head, x: Float64Array): Float32Array {
  const hidden = Float64Array.from(head.hiddenBias.data);
  addProduct(x, head.hiddenWeight.data, hidden);
  for (let i = 0; i < hidden.length; i++) {
    hidden[i] /= 1 + Math.exp(-GELU_SLOPE * hidden[i]);
  }
  const output = Float64Array.from(head.outputBias.data);
  addProduct(hidden, head.outputWeight.data, output);
  addProduct(x, head.residual.data, output);
  const norm = Math.sqrt(output.reduce((sum, y) => sum + y * y, 0));
  return Float32Array.from(output, (y) => y / Math.max(norm, MIN_NORM));
}

/**
 * y += x W, row by row as W lies in memory. Inputs of 0 are skipped, as they occur for a user
 * without skips.
 */
function addProduct(x: Float64Array, weight: Float32Array, y: Float64Array): void {
  const columns = y.length;
  for (let row = 0; row < x.length; row++) {
    const factor = x[row];
    if (factor === 0) {
      continue;
    }
    const offset = row * columns;
    for (let column = 0; column < columns; column++) {
      y[column] += factor * weight[offset + column];
    }
  }
}
