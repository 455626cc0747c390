/** A bundle on the web, whose files are cached by their hash where there is a Cache API. */

import { sha256 } from "../bundle/hashing.js";
import { type FileEntry, MANIFEST_FILE, MAX_MANIFEST_BYTES, WEIGHTS_SUFFIX } from "../bundle/manifest.js";
import type { BundleSource, GraphReference, TransferOptions } from "../bundle/source.js";
import { BundleError, firstLine, MonographError } from "../errors.js";

const CACHE = "monograph-runtime";
// Keys of the cache must look like addresses.
const KEYS = "https://monograph-runtime.invalid/sha256/";
// The first vectors do not wait for the cache.
const CACHE_AFTER_MS = 1000;
// What one array of a browser holds.
const MAX_FILE_BYTES = 2 ** 32 - 1;

/** A file could not be transferred, or is not what the manifest says. */
class TransferError extends Error {}

export class WebSource implements BundleSource {
  readonly isLocal = false;
  readonly name: string;
  readonly #base: URL;
  readonly #contents = new Map<string, Uint8Array>();
  // By their keys: what was downloaded and is still to be cached.
  readonly #uncached = new Map<string, Uint8Array>();
  readonly #cache: Promise<Cache | undefined>;
  #writing: Promise<unknown> = Promise.resolve();

  constructor(url: string, usesCache: boolean) {
    this.#base = new URL(url);
    if (!this.#base.pathname.endsWith("/")) {
      this.#base.pathname += "/";
    }
    this.name = this.#base.href;
    this.#cache = usesCache ? openCache() : Promise.resolve(undefined);
  }

  async readManifest(signal?: AbortSignal): Promise<Uint8Array> {
    const url = this.#url(MANIFEST_FILE);
    const cache = await this.#cache;
    try {
      // The manifest names everything else by its hash, so only its age matters.
      const response = await request(url, { cache: "no-cache", signal: signal ?? null });
      const content = await readBody(response, undefined, MAX_MANIFEST_BYTES, () => {});
      await cache?.put(url, new Response(content as Uint8Array<ArrayBuffer>)).catch(() => {});
      return content;
    } catch (error) {
      signal?.throwIfAborted();
      const cached = await cache?.match(url);
      if (cached !== undefined) {
        return new Uint8Array(await cached.arrayBuffer());
      }
      const reason = error instanceof TransferError ? error.message : `cannot be read (${firstLine(error)})`;
      throw new BundleError(this.name, [`${MANIFEST_FILE} ${reason}`], { cause: error });
    }
  }

  async readMeasurements(): Promise<undefined> {
    // They are of engines of Python, and many servers answer with a page instead of "not found".
    return undefined;
  }

  async check(files: ReadonlyMap<string, FileEntry>, options: TransferOptions): Promise<ReadonlyMap<string, string>> {
    const problems = new Map<string, string>();
    const fetchOne = async ([name, entry]: [string, FileEntry]): Promise<void> => {
      try {
        this.#contents.set(name, await this.#load(name, entry, options));
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!(error instanceof TransferError)) {
          throw error;
        }
        problems.set(name, error.message);
      }
    };
    await Promise.all([...files].map(fetchOne));
    return problems;
  }

  async read(name: string): Promise<Uint8Array> {
    const content = this.#contents.get(name);
    if (content === undefined) {
      throw new MonographError(`${name} is not in memory any more: open the bundle again`);
    }
    return content;
  }

  async graph(file: string, weights: string): Promise<GraphReference> {
    return { bytes: await this.read(file), weights: { name: weights, bytes: await this.read(weights) } };
  }

  release(): void {
    for (const name of this.#contents.keys()) {
      if (name.endsWith(WEIGHTS_SUFFIX)) {
        this.#contents.delete(name);
      }
    }
    if (this.#uncached.size > 0) {
      setTimeout(() => void this.close(), CACHE_AFTER_MS);
    }
  }

  /** Cache what was downloaded. */
  async close(): Promise<void> {
    const cache = await this.#cache;
    const writes = [...this.#uncached].map(async ([key, content]) => {
      this.#uncached.delete(key);
      // A cache that is full is no reason to fail.
      await cache?.put(key, new Response(content as Uint8Array<ArrayBuffer>)).catch(() => {});
    });
    this.#writing = Promise.all([this.#writing, ...writes]);
    await this.#writing;
  }

  #url(name: string): string {
    return new URL(encodeURIComponent(name), this.#base).href;
  }

  async #load(
    name: string,
    entry: FileEntry,
    options: TransferOptions,
  ): Promise<Uint8Array> {
    const cache = await this.#cache;
    const key = KEYS + entry.sha256;
    const cached = await cache?.match(key);
    if (cached !== undefined) {
      const content = new Uint8Array(await cached.arrayBuffer());
      const isTrusted = name.endsWith(WEIGHTS_SUFFIX) && !options.full;
      if (content.length === entry.bytes && (isTrusted || (await sha256(content)) === entry.sha256)) {
        options.onBytes(content.length);
        return content;
      }
      await cache?.delete(key);
    }
    // What this cache holds, that of HTTP need not hold as well.
    const content = await this.#download(name, entry, options, cache === undefined ? "default" : "no-store");
    if ((await sha256(content)) !== entry.sha256) {
      throw new TransferError(`${name} was changed: its sha256 is not the manifest's`);
    }
    if (cache !== undefined) {
      this.#uncached.set(key, content);
    }
    return content;
  }

  async #download(
    name: string,
    entry: FileEntry,
    { signal, onBytes }: TransferOptions,
    cache: RequestCache,
  ): Promise<Uint8Array> {
    if (entry.bytes < 0 || entry.bytes > MAX_FILE_BYTES) {
      throw new TransferError(`${name} has ${entry.bytes} bytes, which no browser holds at once`);
    }
    try {
      const response = await request(this.#url(name), { cache, signal: signal ?? null });
      return await readBody(response, entry.bytes, entry.bytes, onBytes);
    } catch (error) {
      throw error instanceof TransferError
        ? new TransferError(`${name} ${error.message}`)
        : new TransferError(`${name} cannot be read (${firstLine(error)})`);
    }
  }
}

async function openCache(): Promise<Cache | undefined> {
  try {
    // Absent where a page is not served securely, and in some private windows.
    return await globalThis.caches?.open(CACHE);
  } catch {
    return undefined;
  }
}

async function request(url: string, options: RequestInit): Promise<Response> {
  const response = await fetch(url, options);
  if (!response.ok) {
    throw new TransferError(`is missing (HTTP ${response.status} at ${url})`);
  }
  return response;
}

/** A body of at most so many bytes, and exactly of `expected` if that is given. */
async function readBody(
  response: Response,
  expected: number | undefined,
  maxBytes: number,
  onBytes: (bytes: number) => void,
): Promise<Uint8Array> {
  let content = new Uint8Array(expected ?? 2 ** 16);
  let length = 0;
  const reader = response.body?.getReader();
  for (let block = await reader?.read(); block?.value !== undefined; block = await reader?.read()) {
    if (length + block.value.length > maxBytes) {
      await reader?.cancel();
      throw new TransferError(`has more than ${maxBytes} bytes`);
    }
    if (length + block.value.length > content.length) {
      const larger = new Uint8Array(Math.min(maxBytes, 2 * (length + block.value.length)));
      larger.set(content.subarray(0, length));
      content = larger;
    }
    content.set(block.value, length);
    length += block.value.length;
    onBytes(block.value.length);
  }
  if (expected !== undefined && length !== expected) {
    throw new TransferError(`has ${length} bytes instead of ${expected}`);
  }
  return length === content.length ? content : content.slice(0, length);
}
