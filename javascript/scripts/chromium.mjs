// The browser of the checks: Chromium of the system, or that of CHROMIUM.
import { chromium } from "playwright-core";

export async function launchChromium() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--headless", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
  });
}
