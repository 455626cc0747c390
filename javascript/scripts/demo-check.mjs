// Check the built demo in Chromium: node scripts/demo-check.mjs BUNDLE [--random-weights] [--pictures FOLDER] [--start]
//
// It is visited on a desktop and a phone, with and without cross-origin isolation, and again after the server was stopped.
// --start waits for no more than the first results, and leaves out the verification of the bundle: both take minutes for a
// large one.
import assert from "node:assert/strict";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { launchChromium } from "./chromium.mjs";
import { demoPage } from "./demo-page.mjs";
import { serve } from "./serve.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    "random-weights": { type: "boolean", default: false },
    pictures: { type: "string" },
    start: { type: "boolean", default: false },
  },
});
const bundle = resolve(positionals[0]);
const name = basename(bundle);
const address = demoPage(name, options["random-weights"]);
const VISITS = [
  { name: "desktop", viewport: { width: 1300, height: 900 }, isolated: true, colorScheme: "light" },
  { name: "phone", viewport: { width: 390, height: 844 }, isolated: false, colorScheme: "dark" },
];
const browser = await launchChromium();

async function open(context, url, title) {
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error("page:", error.message));
  await page.goto(url);
  if (!options.start) {
    await page.waitForFunction(() => globalThis.measured?.ready === true, null, { timeout: 600_000 });
  }
  await page.waitForFunction(() => document.querySelectorAll("#results li").length > 1, null, { timeout: 120_000 });
  const { firstVector, longestTask, longestGap } = await page.evaluate(() => globalThis.measured);
  const isolated = await page.evaluate(() => crossOriginIsolated);
  console.log(
    `${title}, ${isolated ? "" : "not "}isolated: first vector after ${Math.round(firstVector)} ms; until ${options.start ? "results were" : "all was"} shown, ` +
      `longest task of the page ${Math.round(longestTask)} ms, longest gap ${Math.round(longestGap)} ms`,
  );
  return page;
}

/** Wait until page and bundle are stored for a visit without the server. */
async function stored(page) {
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(
    async () => {
      const manifests = (await (await caches.open("monograph-runtime")).keys()).filter(({ url }) => url.endsWith("manifest.json"));
      const { files } = await (await caches.match(manifests[0])).json();
      return (await (await caches.open("monograph-runtime")).keys()).length > Object.keys(files).length;
    },
    null,
    { timeout: 60_000 },
  );
}

async function picture(page, title) {
  if (options.pictures !== undefined) {
    await page.screenshot({ path: join(options.pictures, `demo-${name}-${title}.png`), fullPage: true });
  }
}

async function use(page, title, colorScheme) {
  await page.fill("#query", "");
  await page.locator("#query").pressSequentially("the bus was late", { delay: 30 });
  await page.waitForTimeout(1000);
  const found = await page.locator("#results li").allTextContents();
  console.log(`  ${await page.locator("#timing").textContent()}; best: ${found[0]}`);
  if (!options.start) {
    await page.click("#verify");
    await page.waitForFunction(() => /Passed|FAILED/.test(document.querySelector("#verification").textContent), null, {
      timeout: 1_800_000,
    });
    const verification = await page.locator("#verification p").textContent();
    console.log(`  ${verification}`);
    assert.match(verification, /^Passed/);
  }
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0);
  console.log(`  after this, longest task of the page ${await page.evaluate(() => Math.round(globalThis.measured.longestTask))} ms`);
  await picture(page, `${title}-${colorScheme}`);
  const other = colorScheme === "dark" ? "light" : "dark";
  await page.emulateMedia({ colorScheme: other });
  await page.waitForTimeout(500);
  await picture(page, `${title}-${other}`);
}

try {
  for (const { name: title, isolated, ...settings } of VISITS) {
    const server = await serve(join(import.meta.dirname, "..", "build", "demo-site"), { [name]: bundle }, { isolated });
    const context = await browser.newContext(settings);
    const page = await open(context, server.url + address, title);
    await use(page, title, settings.colorScheme);
    await stored(page);
    await page.close();
    await server.stop();
    await open(context, server.url + address, `${title}, a second visit without the server`);
    await context.close();
  }
} finally {
  await browser.close();
}
