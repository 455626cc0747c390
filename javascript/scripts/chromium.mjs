// The browser of the checks: Chromium of the system, or that of CHROMIUM.
import { chromium } from "playwright-core";

const ARGUMENTS = ["--no-sandbox", "--headless", "--disable-background-networking", "--disable-component-update", "--no-first-run"];
// Slow, but the same on every machine.
const SOFTWARE_WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** Launch it; with `webgpu` it has a GPU that is computed in software. */
export async function launchChromium({ webgpu = false } = {}) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: webgpu ? [...ARGUMENTS, ...SOFTWARE_WEBGPU] : ARGUMENTS,
  });
}
