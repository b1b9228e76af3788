import type { Settings } from "../settings.ts";
import { serviceHeaders } from "./rest.ts";

/** An object that cannot be read. The message gives the reason and quotes no other service. */
export class StorageError extends Error {
  override readonly name = "StorageError";
}

/** Reads objects from the private bucket of models, with the service key. */
export class Storage {
  constructor(readonly settings: Settings) {}

  /** Reads all bytes of an object. Throws `StorageError`. */
  async read(key: string, maxBytes: number, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const { url, modelBucket, modelPrefix, secretKey } = this.settings;
    if (secretKey === null) {
      throw new StorageError("there is no service key to read the bucket with");
    }
    let response: Response;
    try {
      response = await fetch(`${url}/storage/v1/object/authenticated/${modelBucket}/${modelPrefix}${key}`, {
        headers: serviceHeaders(secretKey),
        redirect: "error",
        signal,
      });
    } catch {
      throw new StorageError(`Storage cannot be reached for ${key}`);
    }
    if (!response.ok) {
      await response.body?.cancel();
      throw new StorageError(`Storage answers ${key} with ${response.status}`);
    }
    return await this.#collect(response, key, maxBytes);
  }

  async #collect(response: Response, key: string, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    try {
      for await (const piece of response.body ?? []) {
        size += piece.length;
        if (size > maxBytes) {
          break;
        }
        pieces.push(piece);
      }
    } catch {
      throw new StorageError(`Storage broke off ${key}`);
    }
    if (size > maxBytes) {
      throw new StorageError(`${key} has more than ${maxBytes} bytes`);
    }
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  }
}
