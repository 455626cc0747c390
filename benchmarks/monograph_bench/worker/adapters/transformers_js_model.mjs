// transformers.js for transformers_js_model.py: node transformers_js_model.mjs PACKAGES OPTIONS.
//
// PACKAGES is the folder that has node_modules, OPTIONS are JSON. Requests come as JSON lines on standard input, answers
// go as JSON lines to standard output.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";

// Standard output is for answers alone.
console.log = console.info = console.debug = console.error;

const [packages, optionsAsJson] = process.argv.slice(2);
const options = JSON.parse(optionsAsJson);
const { env, pipeline } = createRequire(join(packages, "package.json"))("@huggingface/transformers");
env.allowRemoteModels = false;
env.localModelPath = dirname(options.folder);

// Vectors of the last call, in the order of its texts.
let vectors = [];

async function load() {
  return pipeline("feature-extraction", basename(options.folder), {
    device: "cpu",
    dtype: options.dtype,
    session_options: { intraOpNumThreads: options.threads, interOpNumThreads: 1 },
  });
}

// Embed texts from the longest to the shortest: a call of the pipeline pads its texts to one length.
async function encode(extractor, texts, batchSize) {
  const order = texts.map((_, index) => index).sort((a, b) => texts[b].length - texts[a].length);
  const results = new Array(texts.length);
  for (let begin = 0; begin < order.length; begin += batchSize) {
    const batch = order.slice(begin, begin + batchSize);
    const { data, dims } = await extractor(
      batch.map((index) => texts[index]),
      { pooling: options.pooling, normalize: options.normalize },
    );
    batch.forEach((index, row) => {
      results[index] = data.subarray(row * dims[1], (row + 1) * dims[1]);
    });
  }
  vectors = results;
  return texts.length;
}

function versionOf(name) {
  return JSON.parse(readFileSync(join(packages, "node_modules", name, "package.json"), "utf8")).version;
}

function describe() {
  return {
    "@huggingface/transformers": versionOf("@huggingface/transformers"),
    "onnxruntime-node": versionOf("onnxruntime-node"),
    node: process.versions.node,
    device: "cpu",
    compute_dtype: options.dtype === "q8" ? "int8" : "float32",
    threads: String(options.threads),
  };
}

function send(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

async function answer(extractor, request) {
  switch (request.do) {
    case "encode":
      return encode(extractor, request.texts, request.batch_size);
    case "vectors":
      return vectors.map((vector) => Array.from(vector));
    default:
      throw new Error(`unknown request ${request.do}`);
  }
}

async function main() {
  const extractor = await load();
  send({ answer: describe() });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      send({ answer: await answer(extractor, JSON.parse(line)) });
    } catch (error) {
      send({ failed: error.message });
    }
  }
}

try {
  await main();
} catch (error) {
  send({ failed: error.message });
}
