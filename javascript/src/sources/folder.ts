/** A bundle in a folder, in Node. */

import { createHash } from "node:crypto";
import { constants, type FileHandle, lstat, open } from "node:fs/promises";
import { join } from "node:path";

import { type FileEntry, MANIFEST_FILE, MAX_MANIFEST_BYTES, MEASUREMENTS_FILE, PROBES_FILE, WEIGHTS_SUFFIX } from "../bundle/manifest.js";
import type { BundleSource, GraphReference, TransferOptions } from "../bundle/source.js";
import { BundleError, firstLine } from "../errors.js";

const BLOCK_BYTES = 2 ** 20;
// A file is opened only where that cannot wait, and a link is not followed; Windows has neither.
const OPEN_FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0);

// What is wrong with a path that is not a regular file.
const PROBLEMS = {
  missing: "is missing",
  link: "is a link; a bundle holds real files",
  other: "is not a regular file",
} as const;

type Kind = "file" | keyof typeof PROBLEMS;

export class FolderSource implements BundleSource {
  readonly isLocal = true;
  // What was hashed is what is used.
  readonly #contents = new Map<string, Uint8Array>();

  constructor(readonly name: string) {}

  async readManifest(): Promise<Uint8Array> {
    const { kind } = await this.#state(MANIFEST_FILE);
    if (kind === "missing") {
      throw new BundleError(this.name, [await this.#describeMissing()]);
    }
    return this.#readSmall(MANIFEST_FILE, kind, MAX_MANIFEST_BYTES);
  }

  async readMeasurements(maxBytes: number): Promise<Uint8Array | undefined> {
    const { kind } = await this.#state(MEASUREMENTS_FILE);
    return kind === "missing" ? undefined : this.#readSmall(MEASUREMENTS_FILE, kind, maxBytes);
  }

  async check(files: ReadonlyMap<string, FileEntry>, options: TransferOptions): Promise<ReadonlyMap<string, string>> {
    const problems = new Map<string, string>();
    const onBytes = (bytes: number): void => {
      options.signal?.throwIfAborted();
      if (options.full) {
        options.onBytes(bytes);
      }
    };
    for (const [name, entry] of files) {
      options.signal?.throwIfAborted();
      const problem = await this.#findProblem(name, entry, options.full, onBytes);
      if (problem !== undefined) {
        problems.set(name, problem);
      }
    }
    return problems;
  }

  async read(name: string): Promise<Uint8Array> {
    return this.#contents.get(name) ?? this.#readSmall(name, "file", Infinity);
  }

  async graph(file: string): Promise<GraphReference> {
    return { path: join(this.name, file) };
  }

  release(): void {
    this.#contents.clear();
  }

  async close(): Promise<void> {}

  async #findProblem(
    name: string,
    entry: FileEntry,
    full: boolean,
    onBytes: (bytes: number) => void,
  ): Promise<string | undefined> {
    const { kind, bytes } = await this.#state(name);
    if (kind !== "file") {
      return `${name} ${PROBLEMS[kind]}`;
    }
    if (bytes !== entry.bytes) {
      return `${name} has ${bytes} bytes instead of ${entry.bytes}`;
    }
    const isWeights = name.endsWith(WEIGHTS_SUFFIX);
    if (isWeights && !full) {
      return undefined;
    }
    try {
      const isRetained = !isWeights && name !== PROBES_FILE;
      return (await this.#hash(name, isRetained ? entry.bytes : undefined, onBytes)) === entry.sha256
        ? undefined
        : `${name} was changed: its sha256 is not the manifest's`;
    } catch (error) {
      if (!isSystemError(error)) {
        throw error;
      }
      return `${name} cannot be read (${firstLine(error)})`;
    }
  }

  /** The SHA-256 of a file, whose content is retained if its size is given. */
  async #hash(name: string, retainedBytes: number | undefined, onBytes: (bytes: number) => void): Promise<string> {
    const digest = createHash("sha256");
    const content = retainedBytes === undefined ? undefined : new Uint8Array(retainedBytes);
    let length = 0;
    for await (const block of blocksOf(join(this.name, name))) {
      digest.update(block);
      // A file that grows meanwhile has another hash.
      content?.set(block.subarray(0, Math.max(0, content.length - length)), length);
      length = Math.min(length + block.length, content?.length ?? Infinity);
      onBytes(block.length);
    }
    if (content !== undefined) {
      this.#contents.set(name, content);
    }
    return digest.digest("hex");
  }

  async #readSmall(name: string, kind: Kind, maxBytes: number): Promise<Uint8Array> {
    if (kind !== "file") {
      throw new BundleError(this.name, [`${name} ${PROBLEMS[kind]}`]);
    }
    const blocks: Uint8Array[] = [];
    let length = 0;
    try {
      for await (const block of blocksOf(join(this.name, name))) {
        blocks.push(block.slice());
        length += block.length;
        if (length > maxBytes) {
          throw new BundleError(this.name, [`${name} cannot be read (at most ${maxBytes} bytes are)`]);
        }
      }
    } catch (error) {
      if (!isSystemError(error)) {
        throw error;
      }
      throw new BundleError(this.name, [`${name} cannot be read (${firstLine(error)})`], { cause: error });
    }
    return Buffer.concat(blocks);
  }

  async #state(name: string): Promise<{ kind: Kind; bytes: number }> {
    try {
      const status = await lstat(join(this.name, name));
      const kind = status.isSymbolicLink() ? "link" : status.isFile() ? "file" : "other";
      return { kind, bytes: status.size };
    } catch (error) {
      if (isSystemError(error)) {
        return { kind: "missing", bytes: 0 };
      }
      throw error;
    }
  }

  /** What a path without a manifest is, and what to do. */
  async #describeMissing(): Promise<string> {
    const advice = "make a bundle with `monograph export SOURCE OUTPUT`";
    try {
      const isFolder = (await lstat(this.name)).isDirectory();
      return isFolder
        ? `there is no ${MANIFEST_FILE}: this is not a bundle, ${advice}`
        : "this is a file, and a bundle is a folder: extract a packed bundle with `monograph unpack FILE FOLDER`";
    } catch {
      return `there is no such folder, ${advice}`;
    }
  }
}

/** The blocks of a regular file, each of which is overwritten by the next; it must not be a link, pipe or device. */
async function* blocksOf(path: string): AsyncGenerator<Uint8Array> {
  const handle: FileHandle = await open(path, OPEN_FLAGS);
  try {
    if (!(await handle.stat()).isFile()) {
      throw Object.assign(new Error("it is not a regular file"), { code: "EINVAL" });
    }
    const block = new Uint8Array(BLOCK_BYTES);
    for (;;) {
      const { bytesRead } = await handle.read(block, 0, BLOCK_BYTES);
      if (bytesRead === 0) {
        return;
      }
      yield block.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && "code" in error;
}
