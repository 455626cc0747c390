/** Semantic search, similarities and verification of a bundle, all in this page. */

import { Embedder, type Progress, type VerificationResult } from "../dist/browser.js";
import corpus from "../../exporter/monograph_export/compression/calibration_sentences.txt?raw";
import { drawHeatMap } from "./heat-map.js";
import { element, latestOnly } from "./page.js";

const RESULTS = 6;
const SENTENCES = corpus.trim().split("\n").map((line) => line.slice(line.indexOf("\t") + 1));
const bundle = new URLSearchParams(location.search).get("bundle") ?? "bundles/minilm-int8/";

const progress = element("progress", HTMLProgressElement);
const status = element("status", HTMLParagraphElement);
const query = element("query", HTMLInputElement);
const timing = element("timing", HTMLParagraphElement);
const results = element("results", HTMLOListElement);
const sentences = element("sentences", HTMLTextAreaElement);
const map = element("map", HTMLCanvasElement);
const verifyButton = element("verify", HTMLButtonElement);
const verification = element("verification", HTMLDivElement);
const facts = element("facts", HTMLParagraphElement);

/** What the page measures of itself, which scripts/demo-check.mjs reads. */
const measured = { firstVector: 0, longestTask: 0, ready: false };
Object.assign(globalThis, { measured });
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) {
    measured.longestTask = Math.max(measured.longestTask, duration);
  }
}).observe({ type: "longtask", buffered: true });

function showProgress({ done, total, step }: Progress): void {
  progress.max = total;
  progress.value = done;
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
  status.textContent =
    step === "download" ? `Loading the model: ${megabytes(done)} of ${megabytes(total)} MB` : `${done} of ${total} texts`;
}

async function search(model: Embedder, vectors: readonly Float32Array[], text: string): Promise<void> {
  const start = performance.now();
  const [scores] = model.similarity(await model.encodeQuery(text), vectors);
  timing.textContent = `${SENTENCES.length} sentences searched in ${(performance.now() - start).toFixed(1)} ms`;
  const best = Array.from(scores.keys()).sort((one, other) => scores[other] - scores[one]).slice(0, RESULTS);
  results.replaceChildren(
    ...best.map((place) => {
      const item = document.createElement("li");
      const score = document.createElement("span");
      score.className = "score";
      score.textContent = scores[place].toFixed(3);
      item.append(score, SENTENCES[place]);
      return item;
    }),
  );
}

async function compare(model: Embedder, text: string): Promise<void> {
  const lines = text.split("\n").filter((line) => line.trim() !== "").slice(0, 12);
  const vectors = await model.encode(lines);
  drawHeatMap(map, lines, vectors.length > 0 ? model.similarity(vectors, vectors) : []);
}

function showVerification(result: VerificationResult): void {
  const heading = document.createElement("p");
  heading.textContent = result.passed
    ? `Passed: ${result.probes} texts give the reference's vectors, on ${result.engine}.`
    : `FAILED: ${result.reason}`;
  const table = document.createElement("table");
  for (const words of [
    ["batching", "max difference", "worst cosine"],
    ...result.cases.map((one) => [one.name, one.maxAbsDifference.toExponential(1), one.worstCosine?.toFixed(6) ?? ""]),
  ]) {
    const row = table.insertRow();
    words.forEach((word) => (row.insertCell().textContent = word));
  }
  verification.replaceChildren(heading, table);
}

async function main(): Promise<void> {
  const start = performance.now();
  const model = await Embedder.open(bundle, { onProgress: showProgress });
  await model.encode("first");
  measured.firstVector = performance.now() - start;
  status.textContent = "Embedding the sentences…";
  const vectors = await model.encodeDocument(SENTENCES, { onProgress: showProgress });
  element("loading", HTMLElement).hidden = true;
  for (const control of [query, sentences, verifyButton]) {
    control.disabled = false;
  }
  const searchLatest = latestOnly((text: string) => search(model, vectors, text));
  query.addEventListener("input", () => searchLatest(query.value));
  searchLatest(query.value);
  const compareLatest = latestOnly((text: string) => compare(model, text));
  sentences.addEventListener("input", () => compareLatest(sentences.value));
  addEventListener("resize", () => compareLatest(sentences.value));
  compareLatest(sentences.value);
  verifyButton.addEventListener("click", () => {
    verifyButton.disabled = true;
    const onProgress = ({ done, total }: Progress): void => {
      verification.textContent = `${done} of ${total} texts`;
    };
    model
      .verify({ onProgress })
      .then(showVerification, (error: unknown) => (verification.textContent = String(error)))
      .finally(() => (verifyButton.disabled = false));
  });
  const { name } = model.manifest.source;
  facts.textContent =
    `${name}, ${model.graphPrecision}, on ${model.engine} with ${model.threads} thread(s); first vector after ` +
    `${(measured.firstVector / 1000).toFixed(2)} s.`;
  measured.ready = true;
}

if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register("./service-worker.js").catch(() => {});
}
main().catch((error: unknown) => {
  progress.hidden = true;
  status.textContent = error instanceof Error ? error.message : String(error);
});
