import { embed, type Head } from "./head.ts";
import { readSafetensors, type Tensor, TensorError, type TensorFile } from "./safetensors.ts";

/** Counts enter as ln(1 + n) / 5, which is about 1 for a typical history. */
const COUNT_SCALE = 0.2;

const FORMAT = "twotower-user-tower-1";

/**
 * Maps a history to a point of the common space. Of a user, it reads only the vectors of liked and
 * skipped videos.
 *
 * For each decay δ, the liked vectors are averaged with weight δ^age, where age 0 is the latest
 * like; skipped vectors are averaged with one decay of their own. x = [mean for each δ ‖ mean of
 * skips ‖ ln(1 + likes) / 5 ‖ ln(1 + skips) / 5], where a mean over nothing is zero. The head maps
 * x to the output.
 */
export class UserTower {
  readonly dim: number;
  readonly #decays: readonly number[];
  readonly #skipDecay: number;
  readonly #head: Head;

  /** Reads `user_tower.safetensors` of a model. Throws `TensorError`. */
  constructor(bytes: Uint8Array<ArrayBuffer>) {
    const file = readSafetensors(bytes);
    if (file.metadata.get("format") !== FORMAT) {
      throw new TensorError(`the file's format is not ${FORMAT}: publish the model with this version of twotower`);
    }
    this.dim = number(file, "dim", (dim) => Number.isInteger(dim) && dim >= 1);
    this.#skipDecay = number(file, "skip_decay", isDecay);
    this.#decays = decays(file);
    this.#head = readHead(file, (this.#decays.length + 1) * this.dim + 2, this.dim);
  }

  /**
   * Embeds a history. Returns `[dim]`, unit norm. `likes` and `skips` are concatenated vectors, `[n
   * · dim]`, oldest first. Returns `null` for a user without likes and skips, who is better served
   * by popularity.
   */
  embed(likes: Float32Array, skips: Float32Array): Float32Array | null {
    if (likes.length + skips.length === 0) {
      return null;
    }
    const { dim } = this;
    const x = new Float64Array((this.#decays.length + 1) * dim + 2);
    this.#decays.forEach((decay, scale) => mean(likes, decay, x.subarray(scale * dim, (scale + 1) * dim)));
    mean(skips, this.#skipDecay, x.subarray(this.#decays.length * dim, -2));
    x[x.length - 2] = COUNT_SCALE * Math.log1p(likes.length / dim);
    x[x.length - 1] = COUNT_SCALE * Math.log1p(skips.length / dim);
    return embed(this.#head, x);
  }
}

/**
 * Writes the mean of `vectors` `[n · d]` with weight `decay`^age to `out` `[d]`, which must be
 * zero.
 */
function mean(vectors: Float32Array, decay: number, out: Float64Array): void {
  const dim = out.length;
  let weights = 0;
  for (let offset = 0; offset < vectors.length; offset += dim) {
    for (let i = 0; i < dim; i++) {
      out[i] = decay * out[i] + vectors[offset + i];
    }
    weights = decay * weights + 1;
  }
  if (weights > 0) {
    out.forEach((sum, i) => out[i] = sum / weights);
  }
}

function isDecay(decay: unknown): boolean {
  return typeof decay === "number" && decay >= 0 && decay <= 1;
}

function number(file: TensorFile, name: string, holds: (value: number) => boolean): number {
  const value = Number(file.metadata.get(name) ?? NaN);
  if (!holds(value)) {
    throw new TensorError(`\`${name}\` of the file's metadata is missing or wrong`);
  }
  return value;
}

function decays(file: TensorFile): number[] {
  try {
    const list: unknown = JSON.parse(file.metadata.get("decays") ?? "");
    if (Array.isArray(list) && list.length > 0 && list.every(isDecay)) {
      // Rust computes with single-precision decays.
      return list.map(Math.fround);
    }
  } catch {
    // Reported below.
  }
  throw new TensorError("`decays` of the file's metadata is missing or wrong");
}

function readHead(file: TensorFile, inputs: number, dim: number): Head {
  const hidden = file.tensors.get("user_tower.hidden.bias")?.data.length ?? 0;
  const tensor = (name: string, ...shape: number[]): Tensor => {
    const found = file.tensors.get(`user_tower.${name}`);
    if (found === undefined || found.shape.join() !== shape.join()) {
      throw new TensorError(
        `tensor \`user_tower.${name}\`: expected shape [${shape.join()}], found ${
          found ? `[${found.shape.join()}]` : "none"
        }`,
      );
    }
    return found;
  };
  return {
    hiddenWeight: tensor("hidden.weight", inputs, hidden),
    hiddenBias: tensor("hidden.bias", hidden),
    outputWeight: tensor("output.weight", hidden, dim),
    outputBias: tensor("output.bias", dim),
    residual: tensor("residual", inputs, dim),
  };
}
