// How much memory a bundle takes in Node, on Linux: `node scripts/memory.mjs BUNDLE [THREADS]` after `npm run build`. RssAnon
// is what the process has for itself; mapped files, such as the weights and Node's own code, the system can share and drop.
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { Embedder } from "../dist/node.js";

function report(what) {
  const status = readFileSync("/proc/self/status", "utf8");
  const megabytes = (name) => ((Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)[1]) * 1024) / 1e6).toFixed(1);
  console.log(`${what.padEnd(22)} RssAnon ${megabytes("RssAnon")} MB, VmRSS ${megabytes("VmRSS")} MB, peak ${megabytes("VmHWM")} MB`);
}

const [bundle, threads = "1"] = process.argv.slice(2);
report("Node");
const { texts } = JSON.parse(readFileSync(join(bundle, "probes.json"), "utf8"));
const model = await Embedder.open(bundle, { threads: Number(threads) });
report("opened");
await model.encode(texts[0]);
report("one text");
for (const text of texts.slice(0, 100)) {
  await model.encode(text);
}
report("100 texts, one by one");
await model.encode(texts.slice(0, 100));
report("100 texts in a list");
const { passed, probes } = await model.verify();
report(`verify, ${probes} probes`);
process.exitCode = passed ? 0 : 1;
await model.close();
