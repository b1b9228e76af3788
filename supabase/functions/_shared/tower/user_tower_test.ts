import assert from "node:assert/strict";
import { decodeVectors, encodeVector } from "./vectors.ts";
import { readSafetensors } from "./safetensors.ts";
import { UserTower } from "./user_tower.ts";

const FIXTURES = new URL("../../../../fixtures/user_tower/", import.meta.url);
const file = await Deno.readFile(new URL("user_tower.safetensors", FIXTURES));

interface History {
  readonly likes: number[][];
  readonly skips: number[][];
  readonly vector: number[];
}

/**
 * Written by crates/twotower-core/tests/it/user_tower_file.rs, which checks them against the Rust
 * tower.
 */
const histories: History[] = JSON.parse(await Deno.readTextFile(new URL("histories.json", FIXTURES)));

Deno.test("the tower gives the vectors that the Rust tower gives", () => {
  const tower = new UserTower(file);
  assert.equal(tower.dim, 8);
  assert.ok(histories.length >= 6);
  for (const { likes, skips, vector } of histories) {
    const own = tower.embed(Float32Array.from(likes.flat()), Float32Array.from(skips.flat()));
    assert.ok(own !== null);
    const furthest = Math.max(...vector.map((x, i) => Math.abs(x - own[i])));
    assert.ok(furthest <= 1e-5, `${likes.length} likes, ${skips.length} skips: ${furthest}`);
  }
  assert.equal(tower.embed(new Float32Array(), new Float32Array()), null);
});

Deno.test("vectors travel as big-endian float32 in base64", () => {
  const vector = Float32Array.of(1, -0.5, 3.4028234663852886e38, 1e-45);
  assert.equal(encodeVector(vector), "P4AAAL8AAAB/f///AAAAAQ==");
  assert.deepEqual(decodeVectors(encodeVector(vector), 4), vector);
  assert.deepEqual(decodeVectors("", 4), new Float32Array());
  assert.throws(() => decodeVectors(encodeVector(vector), 3), RangeError);
  assert.throws(() => decodeVectors("?", 1));
});

/** The file with its header changed as text, and its length adjusted. */
function changed(change: (header: string) => string): Uint8Array<ArrayBuffer> {
  const length = Number(new DataView(file.buffer).getBigUint64(0, true));
  const header = new TextEncoder().encode(change(new TextDecoder().decode(file.subarray(8, 8 + length))));
  const bytes = new Uint8Array(8 + header.length + file.length - 8 - length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  bytes.set(file.subarray(8 + length), 8 + header.length);
  return bytes;
}

Deno.test("a file that does not hold a tower is refused by name", () => {
  const cases: [string, Uint8Array<ArrayBuffer>][] = [
    ["safetensors", new Uint8Array()],
    ["safetensors", file.slice(0, 100)],
    ["safetensors", changed((header) => header.slice(1))],
    ["cut off", file.slice(0, -1)],
    ["format", changed((header) => header.replace("tower-1", "tower-2"))],
    ["decays", changed((header) => header.replace("[0.0, ", "[2.0, "))],
    ["user_tower.hidden.weight", changed((header) => header.replace("[0.0, ", "["))],
    ["skip_decay", changed((header) => header.replace('"0.9"', '"x"'))],
    ["user_tower.residual", changed((header) => header.replace("user_tower.residual", "user_tower.residuum"))],
    ["float32", changed((header) => header.replace('"F32"', '"F64"'))],
    ["user_tower.output.bias", changed((header) => header.replace('"shape":[8]', '"shape":[4,2]'))],
  ];
  for (const [expected, bytes] of cases) {
    assert.throws(() => new UserTower(bytes), (error: Error) => error.message.includes(expected), expected);
  }
  const notFinite = file.slice();
  notFinite.fill(0xff, -4);
  assert.throws(() => new UserTower(notFinite), /not finite/);
});

/** Any bytes are either read or refused. */
Deno.test("damaged files raise TensorError or hold finite numbers", () => {
  let state = 1;
  const random = (below: number) => (state = (state * 48271) % 2147483647) % below;
  for (let trial = 0; trial < 3000; trial++) {
    const bytes = file.slice(0, trial % 3 === 0 ? random(file.length) : file.length);
    for (let change = 0; bytes.length > 0 && change < 1 + trial % 4; change++) {
      bytes[random(trial % 2 === 0 ? Math.min(900, bytes.length) : bytes.length)] = random(256);
    }
    try {
      const { tensors } = readSafetensors(bytes);
      tensors.forEach(({ data }) => assert.ok(data.every(Number.isFinite)));
    } catch (error) {
      assert.equal((error as Error).name, "TensorError", `trial ${trial}: ${error}`);
    }
  }
});
