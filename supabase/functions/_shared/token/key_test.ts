import assert from "node:assert/strict";
import { jwkKey } from "./key.ts";
import { base64Url, pair } from "../testing/sign.ts";

/** `zeros` bytes in front of `bytes` others, of which the first and the last are given. */
function number(zeros: number, bytes: number, first: number, last: number): string {
  const number = new Uint8Array(zeros + bytes).fill(0xff, zeros);
  number[zeros] = first;
  number[zeros + bytes - 1] = last;
  return base64Url(number);
}

Deno.test("a modulus of RSA has 2048 bits, whatever stands before them", async () => {
  const { jwk } = await pair("RS256", "known");
  assert.equal((await jwkKey({ ...jwk }, false))?.algorithm, "RS256");
  const odd = base64Url(new Uint8Array([1, 0, 1]));
  const cases: [string, string, string, boolean][] = [
    ["2048 bits", number(0, 256, 0x80, 1), odd, true],
    ["4096 bits", number(0, 512, 0xff, 1), odd, true],
    // 342 characters each, as one of 2048 bits has them.
    ["2047 bits", number(0, 256, 0x7f, 1), odd, false],
    ["1024 bits behind zeros", number(128, 128, 0x80, 1), odd, false],
    ["nothing but zeros", base64Url(new Uint8Array(256)), odd, false],
    ["no characters of base64url", "!".repeat(342), odd, false],
    ["even", number(0, 256, 0x80, 2), odd, false],
    ["4097 bits", number(0, 513, 1, 1), odd, false],
    ["exponent 1", number(0, 256, 0x80, 1), base64Url(new Uint8Array([1])), false],
    ["even exponent", number(0, 256, 0x80, 1), base64Url(new Uint8Array([4])), false],
  ];
  for (const [what, n, e, usable] of cases) {
    assert.equal(await jwkKey({ kty: "RSA", n, e }, false) !== null, usable, what);
  }
});

Deno.test("a shared secret has 32 bytes, however it is spelled", async () => {
  const key = (k: string) => jwkKey({ kty: "oct", k }, true);
  assert.equal((await key(base64Url("x".repeat(32))))?.algorithm, "HS256");
  // 42 characters.
  assert.equal(await key(base64Url("x".repeat(31))), null);
  assert.equal(await key(""), null);
});
