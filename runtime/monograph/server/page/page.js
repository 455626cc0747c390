// The page of a server: try a text, see the models, and watch the load. It talks to its own server alone.

const SECONDS = 2;
const POINTS = 60;
// The page's own requests, which are no load.
const OWN_ROUTES = new Set(["/metrics", "/info", "/", "/page/page.js", "/page/style.css", "/health"]);

const $ = (id) => document.getElementById(id);
let key = sessionStorage.getItem("key") ?? "";
let models = [];

class ServerError extends Error {}

async function fetchFromServer(path, body) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  $("keys").hidden = response.status !== 401;
  if (!response.ok) {
    const { error, message } = await response.json().catch(() => ({ error: response.statusText }));
    throw new ServerError(error?.message ?? error ?? message);
  }
  return response;
}

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function row(cells) {
  const made = document.createElement("tr");
  made.append(...cells);
  return made;
}

// Models.

async function loadModels() {
  const info = await (await fetchFromServer("/info")).json();
  models = info.models;
  $("state").textContent = `version ${info.version}`;
  $("models").tBodies[0].replaceChildren(
    ...models.map((model) =>
      row([
        element("td", model.name),
        element("td", model.task),
        element("td", model.dimension.toLocaleString("en"), "number"),
        element("td", model.max_input_length?.toLocaleString("en") ?? "any", "number"),
        element("td", `${model.device}, ${model.graph_precision} graph at ${model.compute_dtype}`),
        element("td", model.verified || "nothing"),
        element("td", model.fingerprint, "number"),
      ]),
    ),
  );
  const chosen = $("model").value;
  $("model").replaceChildren(...models.map((model) => element("option", model.name)));
  if (models.some((model) => model.name === chosen)) $("model").value = chosen;
  describeForm();
}

const chosenModel = () => models.find((model) => model.name === $("model").value);

function describeForm() {
  const task = chosenModel()?.task;
  $("first-label").textContent = task === "rerank" ? "Query" : "Text";
  $("others-label").textContent =
    task === "rerank" ? "Documents to rank, one a line" : "Texts to compare with, one a line";
  $("score-label").textContent = task === "rerank" ? "Score" : "Similarity";
}

// Try it.

const cosine = (a, b) => {
  const dot = (x, y) => x.reduce((sum, value, place) => sum + value * y[place], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b) || 1);
};

const sparseCosine = (a, b) => {
  const dot = (x, y) => {
    const values = new Map(y.map(({ index, value }) => [index, value]));
    return x.reduce((sum, { index, value }) => sum + value * (values.get(index) ?? 0), 0);
  };
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b) || 1);
};

// The mean over the vectors of a query, so that scores do not grow with its length.
const maxSim = (query, vectors) => {
  const dot = (x, y) => x.reduce((sum, value, place) => sum + value * y[place], 0);
  return query.reduce((sum, x) => sum + Math.max(...vectors.map((y) => dot(x, y))), 0) / query.length;
};

async function scores(model, first, others) {
  if (model.task === "rerank") {
    const ranks = await (
      await fetchFromServer("/rerank", { model: model.name, query: first, texts: others })
    ).json();
    return ranks.map(({ index, score }) => [score, others[index]]);
  }
  if (model.task === "multi_vector") {
    const [[query], documents] = await Promise.all(
      [["query", [first]], ["document", others]].map(async ([role, inputs]) =>
        (await fetchFromServer("/embed_all", { model: model.name, inputs, input_type: role })).json(),
      ),
    );
    return documents
      .map((vectors, place) => [maxSim(query, vectors), others[place]])
      .sort((a, b) => b[0] - a[0]);
  }
  const [path, compare] = model.task === "sparse" ? ["/embed_sparse", sparseCosine] : ["/embed", cosine];
  const [own, ...vectors] = await (
    await fetchFromServer(path, { model: model.name, inputs: [first, ...others] })
  ).json();
  return vectors.map((vector, place) => [compare(own, vector), others[place]]).sort((a, b) => b[0] - a[0]);
}

async function compute(event) {
  event.preventDefault();
  const others = $("others").value.split("\n").filter((line) => line.trim());
  const begin = performance.now();
  $("error").hidden = true;
  try {
    const found = await scores(chosenModel(), $("first").value, others.length ? others : [$("first").value]);
    $("results").tBodies[0].replaceChildren(
      ...found.map(([score, text]) => row([element("td", score.toFixed(4), "number"), element("td", text)])),
    );
    $("results").hidden = false;
    $("took").textContent = `${Math.round(performance.now() - begin)} ms, with the way to the server and back`;
  } catch (error) {
    $("error").textContent = error.message;
    $("error").hidden = false;
  }
}

// Load.

function parse(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((one) => [one[1], one[2]]));
    found.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return found;
}

function figuresOf(text) {
  const metrics = parse(text).filter(({ labels }) => !OWN_ROUTES.has(labels.route ?? "other than these"));
  const sum = (name, accept = () => true) =>
    metrics.filter((one) => one.name === name && accept(one.labels)).reduce((total, one) => total + one.value, 0);
  const buckets = new Map();
  for (const { name, labels, value } of metrics) {
    if (name !== "monograph_request_seconds_bucket") continue;
    const limit = labels.le === "+Inf" ? Infinity : Number(labels.le);
    buckets.set(limit, (buckets.get(limit) ?? 0) + value);
  }
  return {
    time: performance.now(),
    requests: sum("monograph_requests_total"),
    errors: sum("monograph_requests_total", (labels) => Number(labels.status) >= 400),
    texts: sum("monograph_texts_total"),
    queued: sum("monograph_queued_tokens"),
    buckets,
  };
}

/** The seconds below which a share of the requests between two readings took, by the buckets they fell in. */
function percentile(before, now, share) {
  const limits = [...now.buckets.keys()].sort((a, b) => a - b);
  const counts = limits.map((limit) => now.buckets.get(limit) - (before.buckets.get(limit) ?? 0));
  const wanted = share * (counts.at(-1) ?? 0);
  if (!wanted) return null;
  const place = counts.findIndex((count) => count >= wanted);
  const [low, lowCount] = place ? [limits[place - 1], counts[place - 1]] : [0, 0];
  if (limits[place] === Infinity) return low;
  return low + ((limits[place] - low) * (wanted - lowCount)) / (counts[place] - lowCount);
}

const history = [];
let before = null;

async function watch() {
  try {
    const now = figuresOf(await (await fetchFromServer("/metrics")).text());
    if (before) show(before, now);
    before = now;
  } catch (error) {
    $("state").textContent = error instanceof ServerError ? error.message : "The server does not answer";
  }
  setTimeout(watch, SECONDS * 1000);
}

function show(before, now) {
  const seconds = (now.time - before.time) / 1000;
  const rate = (name) => (now[name] - before[name]) / seconds;
  const text = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });
  for (const name of ["requests", "texts", "errors"]) $(name).textContent = text(rate(name), rate(name) < 10 ? 1 : 0);
  for (const [id, share] of [["p50", 0.5], ["p99", 0.99]]) {
    const found = percentile(before, now, share);
    $(id).textContent = found === null ? "–" : text(found * 1000, 1);
  }
  $("queued").textContent = text(now.queued, 0);
  history.push(rate("texts"));
  if (history.length > POINTS) history.shift();
  const top = Math.max(1, ...history);
  const points = history.map((value, place) => `${(place * 600) / (POINTS - 1)},${78 - (74 * value) / top}`);
  $("plot").firstElementChild.setAttribute("points", points.join(" "));
}

async function start() {
  try {
    await loadModels();
  } catch (error) {
    $("state").textContent = error.message;
  }
}

$("model").addEventListener("change", describeForm);
$("try").addEventListener("submit", compute);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value;
  sessionStorage.setItem("key", key);
  start();
});
await start();
watch();
