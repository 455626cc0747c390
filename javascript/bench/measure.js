// What both pages measure of themselves; scripts/browser-bench.mjs reads it.
import { watchPage } from "../demo/watch-page.ts";

export const parameters = new URLSearchParams(location.search);

const FIRST_TEXT = "The weather is lovely today.";

/** Open a model, embed a first text, and offer the rest to the driver. Times count from the navigation. */
export async function measure(open) {
  const watched = watchPage();
  try {
    const scriptRuns = performance.now();
    const model = await open();
    const opened = performance.now();
    const vector = await model.one(FIRST_TEXT);
    const firstVector = performance.now();
    globalThis.measured = { scriptRuns, opened, firstVector, ...watched, vector: Array.from(vector) };
    globalThis.alone = async (texts) => {
      const start = performance.now();
      for (const text of texts) {
        await model.one(text);
      }
      return (performance.now() - start) / texts.length;
    };
    globalThis.batched = async (texts, batchSize) => {
      const start = performance.now();
      await model.many(texts, batchSize);
      return (performance.now() - start) / texts.length;
    };
  } catch (error) {
    globalThis.measured = { error: String(error?.stack ?? error) };
  }
}
