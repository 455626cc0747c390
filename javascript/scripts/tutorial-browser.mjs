// What a tutorial does in a browser, for scripts/tutorials: reads {actions, pictures} as JSON from standard input.
// Actions are pairs of a name and its arguments; prints what differs, and ends with 1 if anything does.
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { launchChromium } from "./chromium.mjs";

const MINUTES = 20;
const { actions, pictures, width } = JSON.parse(readFileSync(0, "utf8"));
const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const browser = await launchChromium();
const page = await browser.newPage({ viewport: { width, height: 100 }, colorScheme: "light" });
page.setDefaultTimeout(MINUTES * 60_000);
page.on("pageerror", (error) => console.error(`page: ${error.message}`));
page.on("console", (message) => message.type() === "error" && console.error(`page: ${message.text()}`));

/** Split off the selector, which ends at the first space. */
function selectorAndText(value) {
  const end = value.indexOf(" ");
  return [value.slice(0, end), value.slice(end + 1)];
}

const perform = {
  open: (url) => page.goto(url),
  wait: (selector) => page.locator(selector).first().waitFor(),
  fill: (value) => page.fill(...selectorAndText(value)),
  press: (value) => page.press(...selectorAndText(value)),
  click: (selector) => page.click(selector),
  /** Wait until the first element has the text. */
  expect: async (value) => {
    const [selector, text] = selectorAndText(value);
    const pattern = new RegExp(`^\\s*${text.split("...").map(escape).join(".*")}\\s*$`, "s");
    try {
      await page.locator(selector).filter({ hasText: pattern }).first().waitFor({ timeout: 5 * 60_000 });
    } catch {
      throw new Error(`expected ${selector} to be "${text}"; found ${JSON.stringify(await page.locator(selector).allTextContents())}`);
    }
  },
  picture: (name) => page.screenshot({ path: join(pictures, name), fullPage: true }),
};

try {
  for (const [action, value] of actions) {
    await perform[action](value);
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
