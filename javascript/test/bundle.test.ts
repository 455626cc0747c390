import assert from "node:assert/strict";
import { appendFile, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { BundleError, CrossEncoder, DeviceError, Embedder, InputError, load, type QualityLevel } from "../src/node.js";
import { changeManifest, committed, type ManifestJson, replaceFile, withCopy } from "./fixtures.js";

/** The problems that a bundle is refused for. */
async function problemsOf(folder: string): Promise<readonly string[]> {
  try {
    await (await load(folder)).close();
  } catch (error) {
    assert.ok(error instanceof BundleError, String(error));
    return error.problems;
  }
  return [];
}

test("a path without a bundle says what it is", async () => {
  assert.match((await problemsOf("/no/such/folder"))[0], /there is no such folder/);
  assert.match((await problemsOf(committed("")))[0], /this is not a bundle/);
  assert.match((await problemsOf(join(committed("embedding"), "model.onnx")))[0], /this is a file/);
  await assert.rejects(load(7 as unknown as string), InputError);
});

test("a bundle of another task is refused", async () => {
  await assert.rejects(CrossEncoder.open(committed("embedding")), /it is an embedding model, not a cross-encoder: open it with Embedder/);
});

const MANIFEST_CHANGES: readonly (readonly [RegExp, (manifest: ManifestJson) => void])[] = [
  [/format_version 2 is not known/, (manifest) => (manifest.format_version = 2)],
  [/format_version must be an integer/, (manifest) => (manifest.format_version = true)],
  [/task "music" is not one of/, (manifest) => (manifest.task = "music")],
  [/rerank is missing/, (manifest) => (manifest.task = "rerank")],
  [/quality is missing/, (manifest) => delete manifest.quality],
  [/embedding.dimension must be at least 1/, (manifest) => (manifest.embedding.dimension = 0)],
  [/outputs.sentence_embedding has the shape/, (manifest) => (manifest.embedding.dimension = 25)],
  [/embedding.similarity "angle" is not one of/, (manifest) => (manifest.embedding.similarity = "angle")],
  [/ranges must be a list of 2/, (manifest) => (manifest.embedding.ranges = [])],
  [/tokenizer.padding_side "left" is not "right"/, (manifest) => (manifest.tokenizer.padding_side = "left")],
  [/tokenizer.pad_id must be at least 0/, (manifest) => (manifest.tokenizer.pad_id = -1)],
  [/op_domains has the unknown evil/, (manifest) => manifest.graphs[0].op_domains.push("evil")],
  [/inputs may have .*, not mask/, (manifest) => (manifest.graphs[0].inputs.mask = { dtype: "int64", shape: [] })],
  [/inputs must have input_ids/, (manifest) => delete manifest.graphs[0].inputs.input_ids],
  [/graphs is empty/, (manifest) => (manifest.graphs = [])],
  [/default_prompt_name "no" is not among prompts/, (manifest) => (manifest.default_prompt_name = "no")],
  [/probes.json is used but not listed/, (manifest) => delete manifest.files["probes.json"]],
  [/"..\/x" is not a plain file name/, (manifest) => (manifest.files["../x"] = manifest.files["probes.json"])],
  [/model.onnx was changed/, (manifest) => (manifest.files["model.onnx"].sha256 = "0".repeat(64))],
  [/truncates to 96 tokens, the manifest says 97/, (manifest) => (manifest.tokenizer.max_length = 97)],
  [/model.onnx.data has \d+ bytes instead of 3/, (manifest) => (manifest.files["model.onnx.data"].bytes = 3)],
];

for (const [problem, change] of MANIFEST_CHANGES) {
  test(`a manifest is refused: ${problem.source}`, async () => {
    await withCopy("embedding", async (folder) => {
      await changeManifest(folder, change);
      assert.match((await problemsOf(folder)).join("\n"), problem);
    });
  });
}

test("every problem is reported at once", async () => {
  await withCopy("embedding", async (folder) => {
    await changeManifest(folder, (manifest) => {
      manifest.embedding.dimension = "24";
      delete manifest.producer;
    });
    await rm(join(folder, "probes.json"));
    await appendFile(join(folder, "tokenizer.json"), " ");
    assert.deepEqual(
      (await problemsOf(folder)).map((problem) => problem.replace(/\d+/g, "N")),
      [
        "embedding.dimension must be an integer",
        "producer is missing",
        "probes.json is missing",
        "tokenizer.json has N bytes instead of N",
      ],
    );
  });
});

const TEXT_CHANGES: readonly (readonly [RegExp, (text: string) => string])[] = [
  [/the name "task" is there twice/, (text) => text.replace('"task"', '"task": "rerank", "task"')],
  [/byte order mark/, (text) => `\ufeff${text}`],
  [/not valid/, (text) => text.replace("1,", "NaN,")],
  [/format_version must be an integer/, (text) => text.replace('"format_version": 1', '"format_version": 1.0')],
  [/lone surrogate/, (text) => text.replace('"source"', '"x": "\\ud800", "source"')],
  [/nested too deeply/, (text) => text.replace('"source"', `"x": ${"[".repeat(2000)}${"]".repeat(2000)}, "source"`)],
  [/too large a number/, (text) => text.replace('"source"', '"x": 1e999, "source"')],
  [/more than 1000000 values/, (text) => text.replace('"source"', `"x": [${"1,".repeat(1_000_001)}1], "source"`)],
];

for (const [problem, change] of TEXT_CHANGES) {
  test(`a manifest's JSON is refused: ${problem.source}`, async () => {
    await withCopy("embedding", async (folder) => {
      const path = join(folder, "manifest.json");
      await writeFile(path, change(await readFile(path, "utf8")));
      assert.match((await problemsOf(folder)).join("\n"), problem);
    });
  });
}

test("links are refused", async () => {
  for (const name of ["manifest.json", "model.onnx.data"]) {
    await withCopy("embedding", async (folder) => {
      await rename(join(folder, name), join(folder, "elsewhere"));
      await symlink(join(folder, "elsewhere"), join(folder, name));
      assert.deepEqual(await problemsOf(folder), [`${name} is a link; a bundle holds real files`]);
    });
  }
});

test("weights are hashed only on request", async () => {
  await withCopy("embedding", async (folder) => {
    const path = join(folder, "model.onnx.data");
    const weights = await readFile(path);
    weights[100] ^= 1;
    await writeFile(path, weights);
    await (await Embedder.open(folder)).close();
    const steps = new Set<string>();
    const onProgress = ({ step }: { step: string }): unknown => steps.add(step);
    await assert.rejects(Embedder.open(folder, { check: "full", onProgress }), /model.onnx.data was changed/);
    assert.deepEqual([...steps], ["hash"]);
  });
});

test("measurements of another manifest are refused", async () => {
  await withCopy("embedding-int8-measured", async (folder) => {
    assert.deepEqual(await problemsOf(folder), []);
    await changeManifest(folder, () => {});
    assert.match((await problemsOf(folder))[0], /measurements.json belongs to another manifest.json/);
  });
});

test("a tokenizer that this package does not have is refused", async () => {
  await withCopy("embedding", async (folder) => {
    const file = JSON.parse(await readFile(join(folder, "tokenizer.json"), "utf8"));
    file.normalizer = { type: "Sequence", normalizers: [{ type: "Magic" }] };
    await replaceFile(folder, "tokenizer.json", JSON.stringify(file));
    assert.match((await problemsOf(folder))[0], /tokenizer.json cannot be loaded \(it has the normalizer Magic/);
  });
});

test("opening stops at a signal", async () => {
  await assert.rejects(Embedder.open(committed("embedding"), { signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("a bundle of several precisions runs the default, or the chosen one with its own probes", async () => {
  const folder = committed("embedding-precisions");
  const first = await Embedder.open(folder, { threads: 1 });
  assert.deepEqual([first.graphPrecision, first.graphPrecisions], ["fp32", ["fp32", "int8"]]);
  const second = await Embedder.open(folder, { threads: 1, graphPrecision: "int8" });
  assert.equal(second.graphPrecision, "int8");
  for (const model of [first, second]) {
    assert.equal((await model.verify()).reason, "");
  }
  assert.notDeepEqual(await first.encode("a boat"), await second.encode("a boat"));
  await Promise.all([first.close(), second.close()]);
  await assert.rejects(Embedder.open(folder, { graphPrecision: "fp8" }), /is not one of this bundle's: fp32, int8/);
});

const LOSSES: readonly (readonly [quality: QualityLevel, meanCosine: number, precision: string])[] = [
  ["lossless", 0.99999, "int8"],
  ["lossless", 0.9995, "fp32"],
  ["high", 0.9995, "int8"],
  ["high", 0.998, "fp32"],
  ["fast", 0.998, "int8"],
];

for (const [quality, meanCosine, precision] of LOSSES) {
  test(`quality ${quality} at a mean cosine of ${meanCosine} runs ${precision}`, async () => {
    await withCopy("embedding-precisions", async (folder) => {
      const path = join(folder, "measurements.json");
      const measured = JSON.parse(await readFile(path, "utf8"));
      Object.assign(measured.further_precisions.int8.agreement, { mean_cosine: meanCosine, worst_cosine: 0.9995 });
      await writeFile(path, JSON.stringify(measured));
      const model = await Embedder.open(folder, { threads: 1, quality });
      assert.equal(model.graphPrecision, precision);
      await model.close();
    });
  });
}

test("without measurements the limits of the export are the loss", async () => {
  await withCopy("embedding-precisions", async (folder) => {
    await rm(join(folder, "measurements.json"));
    const precisions = [];
    for (const quality of ["lossless", "fast"] as const) {
      const model = await Embedder.open(folder, { threads: 1, quality });
      precisions.push(model.graphPrecision);
      await model.close();
    }
    assert.deepEqual(precisions, ["fp32", "int8"]);
  });
});

test("a quality that no precision reaches, or that is unknown, is an error", async () => {
  const options = { threads: 1, quality: "lossless" } as const;
  await withCopy("embedding-int8-measured", async (folder) => {
    const path = join(folder, "measurements.json");
    const measured = JSON.parse(await readFile(path, "utf8"));
    measured.agreement.mean_cosine = 0.995;
    await writeFile(path, JSON.stringify(measured));
    const problem = /no graph of quality "lossless" for "cpu", only int8 of quality "fast": .* --precision int8,fp32/;
    await assert.rejects(Embedder.open(folder, options), (error) => error instanceof DeviceError && problem.test(error.message));
  });
  const folder = committed("embedding-precisions");
  await assert.rejects(Embedder.open(folder, { ...options, graphPrecision: "fp32" }), /leave one of them out/);
  await assert.rejects(Embedder.open(folder, { quality: "best" as QualityLevel }), /must be one of "lossless", "high", "fast"/);
});

test("precisions without graphs, and graphs without their precision, are refused", async () => {
  await withCopy("embedding-precisions", async (folder) => {
    await changeManifest(folder, (manifest) => (manifest.further_precisions = {}));
    assert.match((await problemsOf(folder))[0], /graphs have the precision "int8", which further_precisions does not have/);
  });
});
