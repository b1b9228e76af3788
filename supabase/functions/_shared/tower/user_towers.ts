import { afterAnswer } from "../http/after_answer.ts";
import type { Log } from "../http/log.ts";
import { type Storage, StorageError } from "../project/storage.ts";
import { TensorError } from "./safetensors.ts";
import { UserTower } from "./user_tower.ts";

const FILE = "user_tower.safetensors";

/** The manifest has a record for each epoch; the tower has 1 MB at 64 dimensions. */
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const MAX_TOWER_BYTES = 16 * 1024 * 1024;

/** Deadline for both files together. */
const LOAD_DEADLINE_MS = 10_000;

/** How long a request waits for the weights. Without them, the database makes the user's vector. */
const PATIENCE_MS = 1000;

/** Time after a failure before the next attempt. */
const RETRY_AFTER_MS = 60_000;

/** The active version and the previous one: requests change over within moments. */
const VERSIONS_KEPT = 2;

interface Loading {
  readonly tower: Promise<UserTower | null>;
  /** Time of the next attempt; set once loading has failed. */
  retryAtMs: number | null;
}

/** A model: its version, and the checksum that its manifest states, by which it is registered. */
export interface ModelKey {
  readonly version: number;
  readonly manifestSha256: string;
}

/**
 * The user towers of the models in use, each loaded once for each isolate. A tower is used only if
 * its bytes are those that the manifest names, and the manifest is the registered one: vectors of
 * another model with the same number must not be mixed with those of this one.
 */
export class UserTowers {
  readonly #loading = new Map<string, Loading>();

  constructor(
    readonly storage: Storage,
    readonly functionName: string,
    readonly log: Log,
    readonly now: () => number = () => performance.now(),
  ) {}

  /** The tower of `model`, or `null` if its weights cannot be loaded, or not in time. */
  async get(model: ModelKey, patienceMs = PATIENCE_MS): Promise<UserTower | null> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<null>((resolve) => timer = setTimeout(() => resolve(null), patienceMs));
    try {
      return await Promise.race([this.#load(model).tower, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #load(model: ModelKey): Loading {
    const key = `${model.version} ${model.manifestSha256}`;
    const known = this.#loading.get(key);
    if (known !== undefined && (known.retryAtMs === null || this.now() < known.retryAtMs)) {
      return known;
    }
    const loading: Loading = {
      tower: this.#fetch(model).catch((error) => {
        loading.retryAtMs = this.now() + RETRY_AFTER_MS;
        this.log({ level: "warn", function: this.functionName, reason: reason(error, model.version) });
        return null;
      }),
      retryAtMs: null,
    };
    this.#loading.delete(key);
    this.#loading.set(key, loading);
    const [oldest] = this.#loading.keys();
    if (this.#loading.size > VERSIONS_KEPT) {
      this.#loading.delete(oldest);
    }
    // The tower also serves later requests.
    afterAnswer(loading.tower);
    return loading;
  }

  async #fetch(model: ModelKey): Promise<UserTower> {
    const signal = AbortSignal.timeout(LOAD_DEADLINE_MS);
    const key = (name: string) => `models/${model.version}/${name}`;
    const [manifest, bytes] = await Promise.all([
      this.storage.read(key("manifest.json"), MAX_MANIFEST_BYTES, signal),
      this.storage.read(key(FILE), MAX_TOWER_BYTES, signal),
    ]);
    const expected = await stated(manifest, model);
    if (await sha256(bytes) !== expected) {
      throw new StorageError(`${key(FILE)} does not have the SHA-256 that the manifest states`);
    }
    return new UserTower(bytes);
  }
}

/**
 * The SHA-256 of the tower's file as stated by the manifest. Checks that the manifest is undamaged,
 * and that of the model.
 */
async function stated(bytes: Uint8Array<ArrayBuffer>, { version, manifestSha256 }: ModelKey): Promise<string> {
  const text = new TextDecoder().decode(bytes);
  // The first field is the SHA-256 of the manifest without these 64 digits and without the final
  // line break.
  const [, begin, checksum, end] = /^(\{\n {2}"checksum": ")([0-9a-f]{64})(".*)\n$/s.exec(text) ?? [];
  if (checksum === undefined || await sha256(new TextEncoder().encode(begin + end)) !== checksum) {
    throw new StorageError(`the manifest of model version ${version} is damaged`);
  }
  if (checksum !== manifestSha256) {
    throw new StorageError(`the bucket holds another model of version ${version} than the one that is registered`);
  }
  const manifest = JSON.parse(text) as { version?: unknown; files?: Record<string, unknown> };
  const sum = manifest.files?.[FILE];
  if (manifest.version !== version || typeof sum !== "string") {
    throw new StorageError(
      `the manifest of model version ${version} names no ${FILE}: publish it with this version of twotower`,
    );
  }
  return sum;
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function reason(error: unknown, version: number): string {
  const known = error instanceof StorageError || error instanceof TensorError;
  return `no user tower of model version ${version}: ${known ? error.message : "its files cannot be read"}`;
}
