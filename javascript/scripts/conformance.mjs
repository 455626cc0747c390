// The reader as tests/conformance runs it: `verify BUNDLE`, and `conformance BUNDLE` with texts on stdin, each behind a zero byte.
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { main } from "../dist/cli.js";
import { Embedder, MonographError } from "../dist/node.js";
import { readTokenizerFile } from "../dist/tokenizer/file.js";
import { conform } from "./reading.mjs";

async function printConformance(bundle) {
  const texts = readFileSync(0, "utf8").split("\0").slice(0, -1);
  const model = await Embedder.open(bundle, { threads: 1 });
  const file = readFileSync(join(bundle, model.manifest.tokenizer.file));
  const tokenizer = readTokenizerFile(file, (why) => new MonographError(why));
  process.stdout.write(JSON.stringify(await conform(model, tokenizer, texts)));
  await model.close();
}

const [command, bundle] = process.argv.slice(2);
try {
  if (command === "conformance") {
    await printConformance(bundle);
  } else {
    process.exitCode = await main([command, bundle, "--threads", "1"]);
  }
} catch (error) {
  if (!(error instanceof MonographError)) {
    throw error;
  }
  console.error(error.message);
  process.exitCode = 1;
}
