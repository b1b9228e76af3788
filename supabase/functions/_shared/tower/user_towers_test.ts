import assert from "node:assert/strict";
import { Storage as StandIn } from "../../../../tests/stand-ins/storage/storage.ts";
import type { LogLine } from "../http/log.ts";
import { Storage } from "../project/storage.ts";
import { readSettings } from "../settings.ts";
import { type ModelKey, UserTowers } from "./user_towers.ts";

const FIXTURE = new URL("../../../../fixtures/user_tower/user_tower.safetensors", import.meta.url);
const VERSION = 7;

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A manifest as `twotower` writes it: its first field is its own hash. */
async function manifest(content: Record<string, unknown>): Promise<string> {
  const text = (checksum: string) => JSON.stringify({ checksum, ...content }, null, 2);
  return `${text(await sha256(new TextEncoder().encode(text(""))))}\n`;
}

/** The model as which a manifest is registered. */
function registered(manifest: string, version = VERSION): ModelKey {
  return { version, manifestSha256: /"checksum": "([^"]*)"/.exec(manifest)?.[1] ?? "" };
}

/** A bucket with one version, served over HTTP. */
class Bucket implements AsyncDisposable {
  /** The registered model. */
  model: ModelKey = registered("");
  delayMs = 0;
  nowMs = 0;
  readonly log: LogLine[] = [];
  readonly standIn: StandIn;
  readonly towers: UserTowers;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  constructor(readonly folder: string) {
    this.standIn = new StandIn(folder);
    this.#server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
      await new Promise((resolve) => setTimeout(resolve, this.delayMs));
      const role = request.headers.get("apikey") === "sb_secret_a" ? "service_role" : "anon";
      return await this.standIn.answer(request, new URL(request.url).pathname.slice("/storage/v1".length), role);
    });
    const variables: Record<string, string> = {
      SUPABASE_URL: `http://127.0.0.1:${this.#server.addr.port}`,
      SUPABASE_ANON_KEY: "anon",
      SUPABASE_SECRET_KEYS: '{"default":"sb_secret_a"}',
    };
    const storage = new Storage(readSettings((name) => variables[name]));
    this.towers = new UserTowers(storage, "test", (line) => this.log.push(line), () => this.nowMs);
  }

  static async create(): Promise<Bucket> {
    const bucket = new Bucket(await Deno.makeTempDir());
    const tower = await Deno.readFile(FIXTURE);
    await Deno.mkdir(bucket.path(""), { recursive: true });
    await Deno.writeFile(bucket.path("user_tower.safetensors"), tower);
    const files = { "user_tower.safetensors": await sha256(tower) };
    const text = await manifest({ version: VERSION, files });
    await Deno.writeTextFile(bucket.path("manifest.json"), text);
    bucket.model = registered(text);
    return bucket;
  }

  path(name: string): string {
    return `${this.folder}/models/models/${VERSION}/${name}`;
  }

  async [Symbol.asyncDispose]() {
    await this.#server.shutdown();
    await Deno.remove(this.folder, { recursive: true });
  }
}

Deno.test("a version is loaded once, however many ask at once", async () => {
  await using bucket = await Bucket.create();
  const towers = await Promise.all(Array.from({ length: 20 }, () => bucket.towers.get(bucket.model)));
  assert.ok(towers[0] !== null && towers.every((tower) => tower === towers[0]));
  assert.equal(bucket.standIn.reads, 2);
  assert.deepEqual(bucket.log, []);
});

Deno.test("what the manifest does not name is refused, said once, and tried again a minute later", async () => {
  await using bucket = await Bucket.create();
  const good = await Deno.readTextFile(bucket.path("manifest.json"));
  const bad: [string, string][] = [
    ["damaged", good.replace(`"version": ${VERSION}`, `"version": ${VERSION + 1}`)],
    ["damaged", good.trimEnd()],
    ["damaged", "{}"],
    ["names no", await manifest({ version: VERSION, files: {} })],
    ["names no", await manifest({ version: VERSION + 1, files: { "user_tower.safetensors": "0".repeat(64) } })],
    ["SHA-256", await manifest({ version: VERSION, files: { "user_tower.safetensors": "0".repeat(64) } })],
  ];
  for (const [expected, text] of bad) {
    await Deno.writeTextFile(bucket.path("manifest.json"), text);
    const model = registered(text);
    assert.equal(await bucket.towers.get(model), null);
    assert.equal(await bucket.towers.get(model), null);
    const line = bucket.log.pop();
    assert.equal(line?.level, "warn");
    assert.ok(line?.reason?.includes(expected), `${expected}: ${line?.reason}`);
    assert.equal(bucket.log.length, 0, "said once");
    bucket.nowMs += 60_000;
  }
  await Deno.writeTextFile(bucket.path("manifest.json"), good);
  assert.ok(await bucket.towers.get(bucket.model));
});

Deno.test("another model of the same number is refused, and the registered one is taken as soon as it is there", async () => {
  await using bucket = await Bucket.create();
  const good = await Deno.readTextFile(bucket.path("manifest.json"));
  const { files } = JSON.parse(good);
  const other = await manifest({ version: VERSION, files, seed: 43 });
  await Deno.writeTextFile(bucket.path("manifest.json"), other);
  assert.equal(await bucket.towers.get(bucket.model), null);
  assert.match(bucket.log[0].reason!, /another model of version 7/);
  // If the other model is the registered one, it is used, and it does not stand in for the first
  // one.
  assert.ok(await bucket.towers.get(registered(other)));
  assert.equal(await bucket.towers.get(bucket.model), null);
  await Deno.writeTextFile(bucket.path("manifest.json"), good);
  bucket.nowMs += 60_000;
  assert.ok(await bucket.towers.get(bucket.model));
  assert.equal(bucket.log.length, 1);
});

Deno.test("what is slow is not waited for, and is there later", async () => {
  await using bucket = await Bucket.create();
  bucket.delayMs = 200;
  assert.equal(await bucket.towers.get(bucket.model, 20), null);
  assert.ok(await bucket.towers.get(bucket.model, 10_000));
  assert.equal(bucket.standIn.reads, 2);
});

Deno.test("a version that is not in the bucket has no tower", async () => {
  await using bucket = await Bucket.create();
  assert.equal(await bucket.towers.get({ ...bucket.model, version: VERSION + 1 }), null);
  assert.match(bucket.log[0].reason!, /answers models\/8\/manifest\.json with 400|answers models\/8\/user_tower/);
});
