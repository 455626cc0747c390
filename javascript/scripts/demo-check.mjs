// Check the built demo in Chromium, and take pictures of it: node scripts/demo-check.mjs BUNDLE [FOLDER FOR PICTURES]
import assert from "node:assert/strict";
import { join } from "node:path";

import { launchChromium } from "./chromium.mjs";
import { serve } from "./serve.mjs";

const [bundle, pictures] = process.argv.slice(2);
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
const server = await serve(join(import.meta.dirname, "..", "build", "demo-site"), { "minilm-int8": bundle }, { isolated: true });
const browser = await launchChromium();

async function visit(context, name) {
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error("page:", error.message));
  await page.goto(server.url);
  await page.waitForFunction(() => globalThis.measured?.ready === true, null, { timeout: 120_000 });
  await page.waitForFunction(() => document.querySelectorAll("#results li").length > 0);
  const { firstVector, longestTask } = await page.evaluate(() => globalThis.measured);
  console.log(`${name}: first vector after ${Math.round(firstVector)} ms, longest task of the page ${Math.round(longestTask)} ms`);
  return page;
}

try {
  for (const [name, viewport] of Object.entries(SIZES)) {
    const context = await browser.newContext({ viewport });
    const page = await visit(context, name);
    await page.fill("#query", "");
    await page.locator("#query").pressSequentially("the bus was late", { delay: 30 });
    await page.waitForTimeout(1000);
    const found = await page.locator("#results li").allTextContents();
    console.log(`  ${await page.locator("#timing").textContent()}; best: ${found[0]}`);
    await page.click("#verify");
    await page.waitForFunction(() => /Passed|FAILED/.test(document.querySelector("#verification").textContent), null, { timeout: 900_000 });
    const verification = await page.locator("#verification p").textContent();
    console.log(`  ${verification}`);
    assert.match(verification, /^Passed/);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0);
    console.log(`  after all this, longest task of the page ${await page.evaluate(() => Math.round(globalThis.measured.longestTask))} ms`);
    if (pictures !== undefined) {
      await page.screenshot({ path: join(pictures, `demo-${name}.png`), fullPage: true });
    }
    await page.close();
    await context.setOffline(true);
    await visit(context, `${name}, a second visit offline`);
    await context.close();
  }
} finally {
  await browser.close();
  await server.stop();
}
