// transformers.js as its documentation loads a model of one's own, with every file on the same server.
import { env, pipeline } from "@huggingface/transformers";

import { measure, parameters } from "./measure.js";

const RUNTIME = new URL("bundles/onnxruntime-web/ort-wasm-simd-threaded", location.href).href;
const OPTIONS = { pooling: "mean", normalize: true };

env.allowLocalModels = true;
env.allowRemoteModels = false;
env.localModelPath = "/bundles/";
const { wasm } = env.backends.onnx;
const variant = parameters.get("wasm") ?? ".asyncify";
wasm.wasmPaths = { mjs: `${RUNTIME}${variant}.mjs`, wasm: `${RUNTIME}${variant}.wasm` };
if (parameters.has("threads")) {
  wasm.numThreads = Number(parameters.get("threads"));
}

measure(async () => {
  const extractor = await pipeline("feature-extraction", parameters.get("model"), { dtype: "q8", device: "wasm" });
  return {
    one: async (text) => (await extractor(text, OPTIONS)).data,
    many: async (texts, batchSize) => {
      // A call pads its texts to one length.
      const order = texts.map((_, place) => place).sort((one, other) => texts[other].length - texts[one].length);
      const vectors = [];
      for (let start = 0; start < order.length; start += batchSize) {
        const places = order.slice(start, start + batchSize);
        const { data, dims } = await extractor(places.map((place) => texts[place]), OPTIONS);
        places.forEach((place, row) => (vectors[place] = data.slice(row * dims[1], (row + 1) * dims[1])));
      }
      return vectors;
    },
  };
});
