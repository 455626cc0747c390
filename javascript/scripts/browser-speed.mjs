// Measure a bundle in Chromium from loopback: node scripts/browser-speed.mjs BUNDLE [ROUNDS], after `npm run build:browser`.
//
// Of each visit without caches: milliseconds to the first vector, to a short text after it, and per text of a hundred; then the
// time to the first vector of a second visit, which reads the cache.
import { basename, join } from "node:path";

import { launchChromium } from "./chromium.mjs";
import { serve } from "./serve.mjs";

const [bundle, rounds = "3"] = process.argv.slice(2);
const name = basename(bundle);
const browser = await launchChromium();
const server = await serve(join(import.meta.dirname, "..", "build", "browser"), { [name]: bundle });

async function visit(context) {
  const page = await context.newPage();
  await page.goto(server.url);
  await page.waitForFunction(() => globalThis.monograph !== undefined);
  const figures = await page.evaluate(async (path) => {
    const start = performance.now();
    const model = await globalThis.monograph.load(path);
    const opened = performance.now();
    await model.encode("The weather is lovely today.");
    const first = performance.now();
    const times = [];
    for (let round = 0; round < 20; round++) {
      const before = performance.now();
      await model.encode(`Is it round ${round}?`);
      times.push(performance.now() - before);
    }
    const texts = Array.from({ length: 100 }, (_, place) => `Text ${place} is of a length that changes ${"a little ".repeat(place % 12)}`);
    const before = performance.now();
    await model.encode(texts);
    const each = (performance.now() - before) / texts.length;
    await model.close();
    return { open: opened - start, firstVector: first - start, shortText: times.sort((a, b) => a - b)[10], perText: each };
  }, `bundles/${name}`);
  await page.waitForTimeout(500);
  await page.close();
  return figures;
}

const shown = (figures) => Object.entries(figures).map(([key, value]) => `${key} ${value.toFixed(1)}`).join(", ");
for (let round = 0; round < Number(rounds); round++) {
  const context = await browser.newContext();
  console.log(`first visit:  ${shown(await visit(context))}`);
  console.log(`second visit: ${shown(await visit(context))}`);
  await context.close();
}
await browser.close();
await server.stop();
