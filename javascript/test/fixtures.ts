/** The committed bundles of tests/data, and copies of them with changes. */

import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const DATA = fileURLToPath(new URL("../../../tests/data/", import.meta.url));

/** A JSON object of a file, to be changed. */
export type Json = Record<string, JsonField>;
type JsonField = never;

export function committed(name: string): string {
  return join(DATA, name);
}

/** Call `use` with a copy of a committed bundle, which is removed afterwards. */
export async function withCopy<T>(name: string, use: (folder: string) => Promise<T>): Promise<T> {
  const parent = await mkdtemp(join(tmpdir(), "monograph-"));
  const folder = join(parent, name);
  try {
    await cp(committed(name), folder, { recursive: true });
    return await use(folder);
  } finally {
    await rm(parent, { recursive: true });
  }
}

export async function readManifest(folder: string): Promise<Json> {
  return JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"));
}

/** Change the manifest of a bundle, as JSON or as text. */
export async function changeManifest(folder: string, change: (manifest: Json) => void): Promise<void> {
  const manifest = await readManifest(folder);
  change(manifest);
  await writeFile(join(folder, "manifest.json"), JSON.stringify(manifest));
}

/** Replace a file of a bundle, and its entry in the manifest. */
export async function replaceFile(folder: string, name: string, content: Uint8Array | string): Promise<void> {
  const bytes = Buffer.from(content);
  await writeFile(join(folder, name), bytes);
  await changeManifest(folder, (manifest) => {
    manifest.files[name] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
  });
}
