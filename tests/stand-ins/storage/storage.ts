import { dirname, join } from "node:path";

/** Buckets as folders, none of them public: `GET` and `POST /object/…` with the service key. See README.md. */
export class Storage {
  /** Requests for objects so far. */
  reads = 0;

  constructor(readonly folder: string) {}

  /** `role`: that of the request's key or token. */
  async answer(request: Request, path: string, role: string): Promise<Response> {
    const found = /^\/object\/(?:(authenticated|public)\/)?([\w.-]+)\/([\w./-]+)$/.exec(path);
    if (found === null || /(?:^|\/)\.+(?:\/|$)/.test(path)) {
      return refusal("InvalidKey", "invalid key");
    }
    const [, access, bucket, key] = found;
    // What a stranger may not read is not there for them.
    if (access === "public" || role !== "service_role") {
      return refusal("NoSuchBucket", "Bucket not found");
    }
    const file = join(this.folder, bucket, key);
    return request.method === "GET" ? await this.#read(file) : await this.#write(file, request);
  }

  async #read(file: string): Promise<Response> {
    this.reads++;
    const bytes = await Deno.readFile(file).catch(() => null);
    return bytes === null
      ? refusal("NoSuchKey", "Object not found")
      : new Response(bytes, { headers: { "content-type": "application/octet-stream" } });
  }

  async #write(file: string, request: Request): Promise<Response> {
    const replace = request.headers.get("x-upsert") === "true";
    await Deno.mkdir(dirname(file), { recursive: true });
    try {
      await Deno.writeFile(file, await request.bytes(), { createNew: !replace });
    } catch (error) {
      if (error instanceof Deno.errors.AlreadyExists) {
        return refusal("Duplicate", "The resource already exists", "409");
      }
      throw error;
    }
    return Response.json({ Key: file.slice(this.folder.length + 1) });
  }
}

/** Storage answers 400 and says the status it means in the body. */
function refusal(error: string, message: string, statusCode = "404"): Response {
  return Response.json({ statusCode, error, message }, { status: 400 });
}
