// The package in Chromium, for scripts/browser_check.py: node scripts/browser-reader.mjs [--webgpu], after `npm run build:browser`.
//
// Each line of stdin is a JSON object: `command` ("verify", "conformance", "outputs" or "placement"), `bundle` (a folder), `inputs`,
// `call` (the options of the call) and `options` (those of the opening). Its answer is a line of JSON: `code`, `output` and
// `error` of tests/conformance/README.md.
import { join } from "node:path";
import { createInterface } from "node:readline";

import { launchChromium } from "./chromium.mjs";
import { serve } from "./serve.mjs";

const MAX_SECONDS = 1800;
const webgpu = process.argv.includes("--webgpu");
const bundles = {};
const server = await serve(join(import.meta.dirname, "..", "build", "browser"), bundles);
const browser = await launchChromium({ webgpu });
let page;

async function openPage() {
  page = await browser.newPage();
  // Beside other work a page takes more than the default of 30 seconds.
  page.setDefaultTimeout(1000 * MAX_SECONDS);
  await page.goto(server.url);
  await page.waitForFunction(() => globalThis.answer !== undefined);
}

async function answer({ bundle, ...request }) {
  // Another address for each: a manifest would be compared with a cached one.
  const name = `bundle-${Object.keys(bundles).length}`;
  bundles[name] = bundle;
  if (page === undefined) {
    await openPage();
  }
  const lines = [];
  const collect = (message) => lines.push(message.text());
  page.on("console", collect);
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it took more than ${MAX_SECONDS} seconds`)), 1000 * MAX_SECONDS);
  });
  try {
    const result = await Promise.race([page.evaluate((one) => globalThis.answer(one), { ...request, url: `bundles/${name}` }), late]);
    return request.command === "placement" ? { ...result, output: placementIn(lines) } : result;
  } catch (error) {
    await page.close();
    page = undefined;
    return { code: 2, output: "", error: String(error) };
  } finally {
    clearTimeout(timer);
    page?.off("console", collect);
  }
}

/** The operators on each provider, with their number, of what ONNX Runtime logs when it loads a graph. */
function placementIn(lines) {
  const placement = {};
  let provider;
  for (const line of lines.flatMap((text) => text.split("\n"))) {
    const found = /(?:Node\(s\) placed on|All nodes placed on) \[(\w+)\]/.exec(line);
    const operator = /VerifyEachNodeIsAssignedToAnEp\]\s+(\w+) \(/.exec(line)?.[1];
    if (found !== null) {
      provider = placement[found[1]] ??= {};
    } else if (operator !== undefined && provider !== undefined) {
      provider[operator] = (provider[operator] ?? 0) + 1;
    }
  }
  return placement;
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
await browser.close();
await server.stop();
