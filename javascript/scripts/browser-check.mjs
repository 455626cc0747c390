// Check the package in Chromium: node scripts/browser-check.mjs [BUNDLE...], after `npm run build` and `npm run build:browser`.
//
// Each bundle is opened in a Worker, with and without threads, and verified by its own probes. The first one is also
// opened again from the cache, stopped while it is opened, and its vectors are compared with those of Node.
import assert from "node:assert/strict";
import { basename, join } from "node:path";

import { load } from "../dist/node.js";
import { launchChromium } from "./chromium.mjs";
import { serve } from "./serve.mjs";

const root = join(import.meta.dirname, "..");
const data = join(root, "..", "tests", "data");
const SMALL = ["embedding", "embedding-int8", "embedding-int8-weights", "embedding-precisions", "rerank", "sparse", "sparse-routes"].map((name) => join(data, name));
const folders = process.argv.length > 2 ? process.argv.slice(2) : SMALL;
const bundles = Object.fromEntries(folders.map((folder) => [basename(folder), folder]));
const TEXTS = ["The weather is lovely today.", "Das Wetter ist heute schön.", "天気がいい。", "", "a ".repeat(200)];

const browser = await launchChromium();

/** Run a function in a new page of a server, with what is served. */
async function withPage(isolated, work) {
  const server = await serve(join(root, "build", "browser"), bundles, { isolated });
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error("page:", error.message));
  try {
    await page.goto(server.url);
    await page.waitForFunction(() => globalThis.monograph !== undefined);
    await work(page, server, context);
  } finally {
    await context.close();
    await server.stop();
  }
}

async function verify(isolated, name) {
  await withPage(isolated, async (page) => {
    const { longest, result } = await page.evaluate(
      ([bundle, count]) =>
        globalThis.longestGapDuring(async () => {
          const model = await globalThis.monograph.load(`bundles/${bundle}`, { threads: count });
          const verified = await model.verify();
          const { threads, engine } = model;
          await model.close();
          return { ...verified, threads, engine };
        }),
      // Also where the default would be one for lack of CPUs.
      [name, isolated ? 2 : 1],
    );
    const cosine = result.worstCosine === null ? "" : `, worst cosine ${result.worstCosine.toFixed(6)}`;
    console.log(
      `${name}, ${result.threads} threads: ${result.passed ? "passed" : `FAILED (${result.reason})`}, max abs difference ` +
        `${result.maxAbsDifference.toExponential(2)}${cosine}; page blocked for at most ${Math.round(longest)} ms`,
    );
    assert.equal(result.passed, true);
    assert.equal(result.threads, isolated ? 2 : 1);
  });
}

async function checkUse(name, folder) {
  const model = await load(folder, { threads: 1 });
  const isEmbedder = model.manifest.task === "embedding";
  const expected = isEmbedder ? await model.encode(TEXTS) : [];
  await model.close();
  await withPage(false, async (page, server, context) => {
    const first = await page.evaluate(
      async ([bundle, texts, encodes]) => {
        const steps = new Set();
        let [done, total] = [0, 0];
        const onProgress = (progress) => {
          steps.add(progress.step);
          ({ done, total } = progress);
        };
        const start = performance.now();
        const opened = await globalThis.monograph.load(`bundles/${bundle}`, { onProgress });
        const [openTime, complete] = [performance.now() - start, done === total];
        const vectors = encodes ? (await opened.encode(texts)).map((vector) => Array.from(vector)) : [];
        await opened.close();
        return { vectors, steps: [...steps], complete, openTime };
      },
      [name, TEXTS, isEmbedder],
    );
    assert.deepEqual(first.steps, ["download"]);
    assert.equal(first.complete, true);
    const differences = first.vectors.flatMap((vector, row) => vector.map((value, place) => Math.abs(value - expected[row][place])));
    const worst = Math.max(0, ...differences);
    console.log(`${name}: opened in ${Math.round(first.openTime)} ms, vectors differ from Node's by ${worst.toExponential(2)}`);
    if (model.graphPrecision === "fp32") {
      assert.ok(worst <= 1e-6);
    }
    // Caching goes on behind the opening.
    await page.waitForFunction(
      async (count) => (await (await caches.open("monograph-runtime")).keys()).length >= count,
      model.manifest.files.size + 1,
    );
    await context.route("**/bundles/**", (route) => route.abort());
    const before = server.requests.filter((path) => path.startsWith("/bundles/")).length;
    const error = await page.evaluate(async (bundle) => {
      try {
        await (await globalThis.monograph.load(`bundles/${bundle}`)).close();
        return "";
      } catch (caught) {
        return String(caught);
      }
    }, name);
    assert.equal(error, "");
    assert.equal(server.requests.filter((path) => path.startsWith("/bundles/")).length, before);
    await context.unroute("**/bundles/**");
    console.log(`${name}: opened again from the cache, without the server`);
    const names = await page.evaluate(async (bundle) => {
      const reason = (work) => work.then(() => "none", (caught) => `${caught.name}: ${caught.message}`);
      const { load: open, Embedder } = globalThis.monograph;
      const controller = new AbortController();
      const stopped = reason(open(`bundles/${bundle}`, { cache: false, signal: controller.signal, onProgress: () => controller.abort() }));
      return [await stopped, await reason(Embedder.open("bundles/absent")), await reason(open(`bundles/${bundle}`, { threads: 2 }))];
    }, name);
    console.log(`${name}: ${names.join("; ")}`);
    assert.match(names[0], /^AbortError/);
    assert.match(names[1], /^BundleError: .*manifest.json is missing/);
    assert.match(names[2], /^DeviceError: 2 threads need a page that is cross-origin isolated/);
  });
}

try {
  await checkUse(Object.keys(bundles)[0], folders[0]);
  for (const name of Object.keys(bundles)) {
    await verify(false, name);
    await verify(true, name);
  }
} finally {
  await browser.close();
}
