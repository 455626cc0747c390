import { Embedder } from "../dist/browser.js";
import { measure, parameters } from "./measure.js";

const threads = parameters.has("threads") ? Number(parameters.get("threads")) : undefined;

measure(async () => {
  const model = await Embedder.open(`bundles/${parameters.get("model")}/`, { threads });
  return { one: (text) => model.encode(text), many: (texts) => model.encode(texts) };
});
