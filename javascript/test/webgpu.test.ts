import assert from "node:assert/strict";
import { test } from "node:test";

import { Bundle, openBundle } from "../src/bundle/bundle.js";
import { chooseGraphs } from "../src/engines/onnxruntime.js";
import { DeviceError, Embedder } from "../src/node.js";
import { FolderSource } from "../src/sources/folder.js";
import { committed } from "./fixtures.js";

const options = { threads: 1, executionProviders: ["webgpu"] };

test("WebGPU takes the first graph without layers of int8", async () => {
  const bundle = await openBundle(new FolderSource(committed("embedding-precisions")), { full: false });
  const graphs = [...bundle.manifest.graphs].reverse();
  assert.equal(graphs[0]?.precision, "int8");
  const int8First = new Bundle(bundle.source, { ...bundle.manifest, graphs }, bundle.manifestSha256, bundle.checked);
  const chosen = (providers: readonly string[]): string | undefined =>
    chooseGraphs(int8First, providers, {}).manifest.graphs[0]?.precision;
  assert.deepEqual([chosen(["wasm"]), chosen(["webgpu"])], ["int8", "fp32"]);
});

test("WebGPU refuses layers of int8, and says what to do", async () => {
  await assert.rejects(Embedder.open(committed("embedding-int8"), options), (error) => {
    assert.ok(error instanceof DeviceError);
    assert.match(error.message, /WebGPU cannot run the int8 layers of bundle .*: export it with --precision int8-weights or fp32/);
    return true;
  });
  const opening = Embedder.open(committed("embedding-precisions"), { ...options, graphPrecision: "int8" });
  await assert.rejects(opening, /choose the graphPrecision "fp32", or run it on "wasm" or "cpu"/);
});
