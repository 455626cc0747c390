// Print what a bundle computes, as JSON: node scripts/print-vectors.mjs BUNDLE < REQUEST
//
// The request is a JSON object: `inputs`, `call` (the options of the call) and `options` (those of the opening).
import { readFileSync } from "node:fs";

import { load } from "../dist/node.js";
import { outputsOf } from "./reading.mjs";

const { inputs, call, options } = JSON.parse(readFileSync(0, "utf8"));
const model = await load(process.argv[2], { threads: 1, ...options });
process.stdout.write(JSON.stringify(await outputsOf(model, inputs, call)));
await model.close();
