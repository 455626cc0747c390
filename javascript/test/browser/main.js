// The page that scripts/browser-check.mjs drives: the package as an application bundles it.
import * as monograph from "../../dist/browser.js";

globalThis.monograph = monograph;

// The longest task of the page while something runs, in milliseconds.
globalThis.longestGapDuring = async (work) => {
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }, 1);
  const result = await work();
  clearInterval(timer);
  return { longest, result };
};
