// Measure a bundle in Chromium beside transformers.js with the same weights, from a warm server on loopback:
//
//   npm run build && TRANSFORMERS=FOLDER npm run build:bench
//   node scripts/browser-bench.mjs BUNDLE [--transformers FOLDER --peer-model FOLDER] [--rounds 5] [--threads N]
//
// TRANSFORMERS is a folder with @huggingface/transformers in node_modules, the peer's model one of scripts/peer_model.py.
// The rounds are interleaved; every visit has a browser context of its own, and so no cache. Medians are printed: the time
// from the navigation to the first vector, milliseconds a text of 64 of mixed lengths, and the bytes that were served.
// More than one thread are measured on pages that are cross-origin isolated.
import { readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { launchChromium } from "./chromium.mjs";
import { serve } from "./serve.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    transformers: { type: "string" },
    "peer-model": { type: "string" },
    rounds: { type: "string", default: "5" },
    threads: { type: "string", default: "1" },
    start: { type: "boolean", default: false }, // measures no more than the start
  },
});
const [bundle] = positionals;
const root = join(import.meta.dirname, "..");
const sentences = readFileSync(join(root, "../exporter/monograph_export/compression/calibration_sentences.txt"), "utf8")
  .split("\n")
  .filter((line) => line.startsWith("en\t"))
  .map((line) => line.slice(3));
// The number of sentences in a text.
const LENGTHS = [1, 1, 2, 1, 3, 1, 2, 8];
const TEXTS = Array.from({ length: 64 }, (_, place) =>
  Array.from({ length: LENGTHS[place % LENGTHS.length] }, (__, part) => sentences[(7 * place + part) % sentences.length]).join(" "),
);
const PEER_BATCH_SIZES = [1, 8, 32];

const isolated = Number(options.threads) > 1;
const mounts = { [basename(bundle)]: resolve(bundle) };
const pages = { "monograph-runtime": `monograph.html?model=${basename(bundle)}&threads=${options.threads}` };
if (options.transformers !== undefined) {
  const model = resolve(options["peer-model"]);
  mounts[basename(model)] = model;
  mounts["onnxruntime-web"] = resolve(options.transformers, "node_modules/onnxruntime-web/dist");
  const page = `transformers.html?model=${basename(model)}&threads=${options.threads}`;
  pages["transformers.js"] = page;
  pages["transformers.js, smaller wasm"] = `${page}&wasm=`;
}

async function visit(server, browser, name, batchSizes) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const before = server.bytes();
  await page.goto(server.url + pages[name]);
  await page.waitForFunction(() => globalThis.measured !== undefined, null, { timeout: 120_000 });
  const { error, ...figures } = await page.evaluate(() => globalThis.measured);
  if (error !== undefined) {
    throw new Error(`${name}: ${error}`);
  }
  figures.bytes = server.bytes() - before;
  if (!options.start) {
    figures.alone = await page.evaluate((texts) => globalThis.alone(texts), TEXTS);
    figures.batched = {};
    for (const size of batchSizes) {
      figures.batched[size] = await page.evaluate(([texts, count]) => globalThis.batched(texts, count), [TEXTS, size]);
    }
  }
  await context.close();
  return figures;
}

function median(values) {
  const sorted = values.toSorted((one, other) => one - other);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

function cosine(first, second) {
  const dot = (one, other) => one.reduce((sum, value, place) => sum + value * other[place], 0);
  return dot(first, second) / Math.sqrt(dot(first, first) * dot(second, second));
}

function print(name, visits, reference) {
  const of = (read) => median(visits.map(read));
  console.log(`${name}, ${visits.length} visits with ${options.threads} thread(s)`);
  console.log(
    `  first vector ${of(({ firstVector }) => firstVector).toFixed(0)} ms ` +
      `(${visits.map(({ firstVector }) => firstVector.toFixed(0)).join(", ")}), page runs after ` +
      `${of(({ scriptRuns }) => scriptRuns).toFixed(0)} ms; longest task ${of(({ longestTask }) => longestTask).toFixed(0)} ms, ` +
      `gap ${of(({ longestGap }) => longestGap).toFixed(0)} ms`,
  );
  if (!options.start) {
    const [size] = Object.keys(visits[0].batched);
    const chosen = size === "undefined" ? "of its own choice" : `of ${size}`;
    console.log(
      `  one at a time ${of(({ alone }) => alone).toFixed(2)} ms a text, in batches ${chosen} ` +
        `${of(({ batched }) => batched[size]).toFixed(2)} ms`,
    );
  }
  console.log(
    `  ${(of(({ bytes }) => bytes) / 1e6).toFixed(2)} MB served; cosine to monograph-runtime ` +
      cosine(visits[0].vector, reference).toFixed(4),
  );
}

const server = await serve(join(root, "build", "bench"), mounts, { isolated });
const browser = await launchChromium();
const batchSizes = Object.fromEntries(
  Object.keys(pages).map((name) => [name, name.startsWith("transformers") ? PEER_BATCH_SIZES : [undefined]]),
);
const figures = Object.fromEntries(Object.keys(pages).map((name) => [name, []]));
try {
  for (let round = 0; round <= Number(options.rounds); round++) {
    for (const name of Object.keys(pages)) {
      const result = await visit(server, browser, name, batchSizes[name]);
      // The first round warms server and browser, and finds the best size of a batch.
      if (round > 0) {
        figures[name].push(result);
      } else if (!options.start) {
        const [best] = Object.entries(result.batched).sort(([, one], [, other]) => one - other)[0];
        batchSizes[name] = [best === "undefined" ? undefined : Number(best)];
      }
    }
  }
  const reference = figures["monograph-runtime"][0].vector;
  for (const [name, visits] of Object.entries(figures)) {
    print(name, visits, reference);
  }
} finally {
  await browser.close();
  await server.stop();
}
