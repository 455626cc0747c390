/** The committed bundles of tests/data, and copies of them with changes. */

import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const DATA = fileURLToPath(new URL("../../../tests/data/", import.meta.url));

/** What tests change of a manifest. */
export interface ManifestJson {
  format_version: unknown;
  task: unknown;
  quality?: unknown;
  producer?: unknown;
  default_prompt_name: unknown;
  further_precisions?: unknown;
  embedding: { dimension: unknown; similarity: unknown; ranges: unknown };
  tokenizer: { padding_side: unknown; pad_id: unknown; max_length: unknown };
  graphs: { op_domains: string[]; inputs: Record<string, unknown> }[];
  files: Record<string, { bytes: number; sha256: string }>;
}

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

/** Change the manifest of a bundle. */
export async function changeManifest(folder: string, change: (manifest: ManifestJson) => void): Promise<void> {
  const path = join(folder, "manifest.json");
  const manifest = JSON.parse(await readFile(path, "utf8")) as ManifestJson;
  change(manifest);
  await writeFile(path, JSON.stringify(manifest));
}

/** Replace a file of a bundle, and its entry in the manifest. */
export async function replaceFile(folder: string, name: string, content: Uint8Array | string): Promise<void> {
  const bytes = Buffer.from(content);
  await writeFile(join(folder, name), bytes);
  await changeManifest(folder, (manifest) => {
    manifest.files[name] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
  });
}
