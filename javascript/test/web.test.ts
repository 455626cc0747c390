import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";

import { BundleError, Embedder, type Progress } from "../src/node.js";
import { committed } from "./fixtures.js";

/** Serve a committed bundle at /bundle/, and call `use` with its address; `change` may replace what is sent. */
async function served(
  name: string,
  use: (url: string) => Promise<void>,
  change: (file: string, content: Buffer) => Buffer = (_, content) => content,
): Promise<void> {
  const server = createServer((request, response) => {
    const file = request.url?.replace("/bundle/", "") ?? "";
    readFile(join(committed(name), file)).then(
      (content) => response.end(change(file, content)),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/bundle`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("a bundle of the web gives the vectors of its folder", async () => {
  await served("embedding", async (url) => {
    const progress: Progress[] = [];
    const remote = await Embedder.open(url, { threads: 1, onProgress: (one) => progress.push(one) });
    const local = await Embedder.open(committed("embedding"), { threads: 1 });
    assert.deepEqual(await remote.encode("a boat"), await local.encode("a boat"));
    assert.equal((await remote.verify()).passed, true);
    assert.ok(progress.every(({ step }) => step === "download"));
    assert.equal(progress.at(-1)?.done, progress.at(-1)?.total);
    await Promise.all([remote.close(), local.close()]);
  });
});

const CHANGES: readonly (readonly [RegExp, (file: string, content: Buffer) => Buffer])[] = [
  [/tokenizer.json has \d+ bytes instead of/, (file, content) => (file === "tokenizer.json" ? content.subarray(1) : content)],
  [/model.onnx.data has more than/, (file, content) => (file === "model.onnx.data" ? Buffer.concat([content, content]) : content)],
  [
    /model.onnx.data was changed/,
    (file, content) => (file === "model.onnx.data" ? Buffer.from(content).fill(1, 0, 1) : content),
  ],
];

for (const [problem, change] of CHANGES) {
  test(`a transferred file is refused: ${problem.source}`, async () => {
    await served("embedding", async (url) => assert.rejects(Embedder.open(url), problem), change);
  });
}

test("problems of weights and of other files are reported together, in the manifest's order", async () => {
  const spoil = (file: string, content: Buffer): Buffer => (/data|tokenizer/.test(file) ? content.subarray(1) : content);
  await served(
    "embedding",
    async (url) => {
      const error = await Embedder.open(url).catch((caught: unknown) => caught);
      assert.ok(error instanceof BundleError);
      assert.deepEqual(
        error.problems.map((problem) => problem.replace(/\d+/g, "N")),
        ["model.onnx.data has N bytes instead of N", "tokenizer.json has N bytes instead of N"],
      );
    },
    spoil,
  );
});

test("an address without a bundle, and one that does not answer, are errors", async () => {
  await served("absent", async (url) => assert.rejects(Embedder.open(url), /manifest.json is missing \(HTTP 404/));
  await assert.rejects(Embedder.open("http://127.0.0.1:9/"), BundleError);
});

test("a transfer stops at a signal", async () => {
  await served("embedding", async (url) => {
    const controller = new AbortController();
    const opening = Embedder.open(url, { signal: controller.signal, onProgress: () => controller.abort() });
    await assert.rejects(opening, { name: "AbortError" });
  });
});
