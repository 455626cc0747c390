/** A program outside the checkout that uses the npm package with strict types: node consumer.js BUNDLE */

import { BundleError, Embedder, load, type VerificationResult } from "monograph-runtime";

const [bundle] = process.argv.slice(2);
if (bundle === undefined) {
  throw new Error("usage: node consumer.js BUNDLE");
}

const model = await Embedder.open(bundle, { check: "full", threads: 1 });
const one: Float32Array = await model.encode("a boat in the harbour");
const [first, second]: Float32Array[] = await model.encode(["a boat in the harbour", "bread"]);
if (first === undefined || second === undefined || one.length !== model.dimension) {
  throw new Error("encode does not return a vector for each text");
}
if (one.some((value, index) => Math.abs(value - (first[index] ?? NaN)) > 1e-5)) {
  throw new Error("a text's vector depends on its neighbours");
}
const result: VerificationResult = await model.verify();
await model.close();
if (!result.passed) {
  throw new Error(result.reason);
}
const refused = await load("no-such-folder").then(() => null, (error: unknown) => error);
if (!(refused instanceof BundleError)) {
  throw new Error("a folder that does not exist is not a BundleError");
}
console.log(`${result.engine}: ${result.probes} probes, largest difference ${result.maxAbsDifference.toExponential(1)}`);
