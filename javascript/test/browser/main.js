// The page that the checks of scripts/ drive: the package as an application bundles it.
import * as monograph from "../../dist/browser.js";
import { conform, outputsOf } from "../../scripts/reading.mjs";

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

// Answers a request of scripts/browser-reader.mjs.
globalThis.answer = async (request) => {
  try {
    const output = await ANSWERS[request.command](request);
    return output === undefined ? { code: 0, output: "", error: "" } : { code: 0, output, error: "" };
  } catch (error) {
    if (!(error instanceof monograph.MonographError)) {
      throw error;
    }
    return { code: 1, output: "", error: error.message };
  }
};

const ANSWERS = { verify, conformance, outputs, placement };

async function withModel({ url, options }, use) {
  const model = await monograph.load(url, { cache: false, ...options });
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}

// In the page itself: a Worker for each of two hundred bundles would compile ONNX Runtime as often.
const IN_PAGE = { worker: false };

async function verify({ url, options }) {
  const { passed, reason } = await withModel({ url, options: { ...IN_PAGE, check: "full", ...options } }, (model) => model.verify());
  if (!passed) {
    throw new monograph.MonographError(reason);
  }
}

async function conformance(request) {
  const { readTokenizerFile } = await import("../../dist/tokenizer/file.js");
  return withModel({ ...request, options: { ...IN_PAGE, ...request.options } }, async (model) => {
    const response = await fetch(`${request.url}/${model.manifest.tokenizer.file}`);
    const tokenizer = readTokenizerFile(new Uint8Array(await response.arrayBuffer()), (why) => new monograph.MonographError(why));
    return conform(model, tokenizer, request.inputs);
  });
}

async function outputs(request) {
  return withModel(request, (model) => outputsOf(model, request.inputs, request.call));
}

// Loads the graph as the package does, and has ONNX Runtime log which provider runs what.
async function placement(request) {
  const [{ chooseGraphs, prepareGraph }, { openBundle }, { WebSource }, { env, InferenceSession }] = await Promise.all([
    import("../../dist/engines/onnxruntime.js"),
    import("../../dist/bundle/bundle.js"),
    import("../../dist/sources/web.js"),
    import("onnxruntime-web/webgpu"),
  ]);
  const { executionProviders, graphPrecision } = request.options;
  const whole = await openBundle(new WebSource(new URL(request.url, document.baseURI).href, false), { full: false });
  await whole.checked;
  const bundle = chooseGraphs(whole, executionProviders, { graphPrecision });
  env.logLevel = "verbose";
  const { reference, sessionOptions } = await prepareGraph(bundle, undefined, { threads: 1, executionProviders });
  const session = await InferenceSession.create(reference.bytes, { ...sessionOptions, logSeverityLevel: 0 });
  await session.release();
}
