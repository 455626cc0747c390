// Print what a bundle computes of inputs, a JSON list on stdin: `batched`, the outputs in one call, and `alone`, those of a
// call each. Dense vectors are lists of numbers, sparse ones pairs of columns and values.
//
// node scripts/print-vectors.mjs BUNDLE < inputs.json
import { readFileSync } from "node:fs";

import { load } from "../dist/node.js";

const model = await load(process.argv[2], { threads: 1 });
const inputs = JSON.parse(readFileSync(0, "utf8"));

async function compute(some) {
  switch (model.manifest.task) {
    case "embedding":
      return (await model.encode(some)).map((vector) => Array.from(vector));
    case "rerank": {
      const logits = Array.from(await model.predict(some, { activation: "Identity" }));
      return some.map((_, row) => logits.slice(row * model.numLabels, (row + 1) * model.numLabels));
    }
    case "sparse":
      return (await model.encodeDocument(some)).map(({ indices, values }) => [Array.from(indices), Array.from(values)]);
  }
}

const batched = await compute(inputs);
const alone = [];
for (const input of inputs) {
  alone.push(...(await compute([input])));
}
await model.close();
process.stdout.write(JSON.stringify({ batched, alone }));
