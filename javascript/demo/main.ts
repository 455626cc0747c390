/** Semantic search, similarities and verification of a bundle, all in this page. */

import { Embedder, type Progress, type VerificationResult } from "../dist/browser.js";
import corpus from "../../exporter/monograph_export/compression/calibration_sentences.txt?raw";
import { drawHeatMap } from "./heat-map.js";
import { element, latestOnly } from "./page.js";
import { watchPage } from "./watch-page.js";

const RESULTS = 6;
const MAX_COMPARED = 12;
// Results improve as often as so many more sentences are embedded.
const SENTENCES_AT_A_TIME = 16;
const SENTENCES = corpus.trim().split("\n").map((line) => line.slice(line.indexOf("\t") + 1));

const parameters = new URLSearchParams(location.search);
const bundle = parameters.get("bundle") ?? "bundles/minilm-int8/";

const loading = element("loading", HTMLElement);
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

/** What the page measures of itself, which scripts/demo-check.mjs reads. Times are milliseconds since the navigation. */
const finished = new AbortController();
const measured = Object.assign(watchPage(finished.signal), { firstVector: 0, ready: false });
Object.assign(globalThis, { measured });

function showProgress(words: string, done: number, total: number): void {
  progress.max = total;
  progress.value = done;
  status.textContent = words;
}

function showDownload({ done, total }: Progress): void {
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
  showProgress(`Loading the model: ${megabytes(done)} of ${megabytes(total)} MB`, done, total);
}

/** Show the sentences that are nearest to a text, of those that are embedded so far. */
async function search(model: Embedder, vectors: readonly Float32Array[], text: string): Promise<void> {
  const start = performance.now();
  const vector = await model.encodeQuery(text);
  const [scores] = model.similarity(vector, vectors);
  timing.textContent = `${vectors.length} sentences searched in ${(performance.now() - start).toFixed(0)} ms`;
  const best = Array.from(scores.keys()).sort((one, other) => scores[other] - scores[one]).slice(0, RESULTS);
  results.replaceChildren(
    ...best.map((place) => {
      const item = document.createElement("li");
      const score = document.createElement("span");
      score.className = "score";
      score.textContent = scores[place].toFixed(2);
      item.append(score, SENTENCES[place]);
      return item;
    }),
  );
}

/** Embed the sentences, a few at a time so that searches can run in between; `onMore` is called with each few. */
async function embedSentences(model: Embedder, vectors: Float32Array[], onMore: () => void): Promise<void> {
  while (vectors.length < SENTENCES.length) {
    const next = SENTENCES.slice(vectors.length, vectors.length + SENTENCES_AT_A_TIME);
    vectors.push(...(await model.encodeDocument(next)));
    showProgress(`Embedding the sentences: ${vectors.length} of ${SENTENCES.length}`, vectors.length, SENTENCES.length);
    onMore();
  }
}

/** What the map shows. */
let compared: { readonly lines: readonly string[]; readonly values: readonly Float32Array[] } = { lines: [], values: [] };

function drawMap(): void {
  drawHeatMap(map, compared.lines, compared.values);
}

async function compare(model: Embedder, text: string): Promise<void> {
  const lines = text.split("\n").filter((line) => line.trim() !== "").slice(0, MAX_COMPARED);
  const vectors = await model.encode(lines);
  compared = { lines, values: vectors.length > 0 ? model.similarity(vectors, vectors) : [] };
  drawMap();
}

function showVerification(result: VerificationResult): void {
  const heading = document.createElement("p");
  heading.className = result.passed ? "passed" : "failed";
  heading.textContent = result.passed
    ? `Passed: ${result.probes} texts give the reference's vectors, on ${result.engine}.`
    : `FAILED: ${result.reason}`;
  const table = document.createElement("table");
  const header = table.createTHead().insertRow();
  for (const words of ["batching", "largest difference", "worst cosine"]) {
    header.append(Object.assign(document.createElement("th"), { textContent: words }));
  }
  const body = table.createTBody();
  for (const { name, maxAbsDifference, worstCosine } of result.cases) {
    const row = body.insertRow();
    for (const words of [name, maxAbsDifference.toExponential(1), worstCosine?.toFixed(5) ?? ""]) {
      row.insertCell().textContent = words;
    }
  }
  verification.replaceChildren(heading, table);
}

function verify(model: Embedder): void {
  verifyButton.disabled = true;
  const onProgress = ({ done, total }: Progress): void => {
    verification.textContent = `${done} of ${total} texts`;
  };
  model
    .verify({ onProgress })
    .then(showVerification, (error: unknown) => (verification.textContent = String(error)))
    .finally(() => (verifyButton.disabled = false));
}

function showFacts(model: Embedder): void {
  const seconds = (measured.firstVector / 1000).toFixed(2);
  const threads = model.threads === 1 ? "1 thread" : `${model.threads} threads`;
  const busy = measured.longestTask === 0 ? "for no more than 50 ms" : `for ${Math.round(measured.longestTask)} ms at most`;
  facts.textContent =
    `${model.manifest.source.name}, ${model.graphPrecision}, ${model.dimension} dimensions, on ${model.engine} with ` +
    `${threads}. First vector ${seconds} s after the visit began; the page itself was busy ${busy} at a time.`;
}

async function main(): Promise<void> {
  const model = await Embedder.open(bundle, { onProgress: showDownload });
  const vectors = [await model.encodeDocument(SENTENCES[0])];
  measured.firstVector = performance.now();
  // Not before: it fetches the page's files once more, which would take the model's time.
  storePage();
  for (const control of [query, sentences, verifyButton]) {
    control.disabled = false;
  }
  const searchLatest = latestOnly((text: string) => search(model, vectors, text));
  query.addEventListener("input", () => searchLatest(query.value));
  const compareLatest = latestOnly((text: string) => compare(model, text));
  sentences.addEventListener("input", () => compareLatest(sentences.value));
  addEventListener("resize", drawMap);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  verifyButton.addEventListener("click", () => verify(model));
  compareLatest(sentences.value);
  await embedSentences(model, vectors, () => searchLatest(query.value));
  loading.hidden = true;
  finished.abort();
  showFacts(model);
  measured.ready = true;
}

/** Store the page for visits without a network; browsers may refuse that, and the page does without. */
function storePage(): void {
  navigator.serviceWorker?.register("./service-worker.js").catch((error: unknown) => console.warn(error));
}

element("notice", HTMLParagraphElement).hidden = parameters.get("weights") !== "random";
main().catch((error: unknown) => {
  progress.hidden = true;
  status.textContent = error instanceof Error ? error.message : String(error);
});
