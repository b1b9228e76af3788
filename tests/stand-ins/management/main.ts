/**
 * The part of Supabase's management API that `supabase functions deploy --use-api` talks to: `deno run main.ts FOLDER` prints its address,
 * and puts what is deployed into FOLDER/SLUG, with the request's metadata in FOLDER/SLUG.json.
 */

import { dirname, join, normalize } from "node:path";

/** A function as the API describes it. */
interface Deployed {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly verify_jwt: boolean;
  readonly entrypoint_path: string;
  readonly import_map_path: string;
  readonly status: string;
  readonly version: number;
  readonly created_at: number;
  readonly updated_at: number;
}

/** Bytes of sources that the platform takes for one function. */
const MAX_BUNDLE_BYTES = 5 * 1024 * 1024;

const [folder] = Deno.args;
const active = new Map<string, Deployed>();

async function deploy(request: Request, slug: string, ref: string): Promise<Response> {
  const form = await request.formData();
  const metadata = JSON.parse(String(form.get("metadata")));
  const files = form.getAll("file").filter((file) => file instanceof File);
  const names = files.map(({ name }) => normalize(name));
  if (names.some((name) => name.startsWith("..") || name.startsWith("/"))) {
    return refusal(400, "a file lies outside of the project");
  }
  if (![metadata.entrypoint_path, metadata.import_map_path].every((path) => names.includes(normalize(path)))) {
    return refusal(400, "the entry point or the import map is not among the files");
  }
  if (files.reduce((size, file) => size + file.size, 0) > MAX_BUNDLE_BYTES) {
    return refusal(413, "the bundle is larger than 5 MB");
  }
  for (const [index, file] of files.entries()) {
    const path = join(folder, slug, names[index]);
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.writeFile(path, await file.bytes());
  }
  await Deno.writeTextFile(join(folder, `${slug}.json`), JSON.stringify(metadata));
  const now = Date.now();
  const version = (active.get(slug)?.version ?? 0) + 1;
  const { entrypoint_path, import_map_path, name, verify_jwt } = metadata;
  const described = { entrypoint_path, import_map_path, name, verify_jwt };
  const times = { created_at: now, updated_at: now };
  return Response.json({ ...described, ...times, id: `${ref}-${slug}`, slug, status: "ACTIVE", version }, {
    status: 201,
  });
}

async function activate(request: Request): Promise<Response> {
  const functions = await request.json() as Deployed[];
  functions.forEach((described) => active.set(described.slug, described));
  return Response.json({ functions });
}

function refusal(status: number, message: string): Response {
  return Response.json({ message }, { status });
}

const onListen = ({ port }: Deno.NetAddr) => console.log(`http://127.0.0.1:${port}`);
Deno.serve({ hostname: "127.0.0.1", port: 0, onListen }, async (request) => {
  const { pathname, searchParams } = new URL(request.url);
  const [, ref, rest] = /^\/v1\/projects\/([a-z]{20})(\/.*)?$/.exec(pathname) ?? [];
  if (!/^Bearer sbp_[0-9a-f]{40}$/.test(request.headers.get("authorization") ?? "")) {
    return refusal(401, "Unauthorized");
  }
  switch (`${request.method} ${rest}`) {
    case "POST /functions/deploy":
      return await deploy(request, searchParams.get("slug") ?? "", ref);
    case "PUT /functions":
      return await activate(request);
    case "GET /functions":
      return Response.json([...active.values()]);
    default:
      return refusal(404, "this address is not stood in for");
  }
});
