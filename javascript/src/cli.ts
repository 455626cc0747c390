/** The command `monograph-runtime`. */

import { parseArgs } from "node:util";

import { load, MonographError, type VerificationResult } from "./node.js";

const USAGE = `usage: monograph-runtime verify BUNDLE [--threads N] [--json]

Hash every file of a bundle, run its probes and compare with their reference, for each of its precisions. BUNDLE is a folder or an http(s) address.
The exit code is 0 if the bundle passes, 1 if it fails or cannot be opened, and 2 for wrong usage.`;

/** Run the command, and return its exit code. */
export async function main(words: readonly string[]): Promise<number> {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...words],
      allowPositionals: true,
      options: { threads: { type: "string" }, json: { type: "boolean" }, help: { type: "boolean", short: "h" } },
    });
  } catch (error) {
    console.error(`monograph-runtime: ${error instanceof Error ? error.message : String(error)}`);
    return 2;
  }
  const { positionals, values } = parsed;
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const [command, bundle, ...rest] = positionals;
  if (command !== "verify" || bundle === undefined || rest.length > 0) {
    console.error(USAGE);
    return 2;
  }
  try {
    const threads = values.threads === undefined ? undefined : Number(values.threads);
    return await verify(bundle, threads, values.json === true);
  } catch (error) {
    if (!(error instanceof MonographError)) {
      throw error;
    }
    console.error(`monograph-runtime: ${error.message}`);
    return 1;
  }
}

async function verify(bundle: string, threads: number | undefined, asJson: boolean): Promise<number> {
  const results: { readonly precision: string; readonly result: VerificationResult }[] = [];
  // Known when it is opened; its files are hashed once.
  let precisions: readonly (string | undefined)[] = [undefined];
  for (let place = 0; place < precisions.length; place++) {
    const check = place === 0 ? "full" : "fast";
    const model = await load(bundle, { threads, check, graphPrecision: precisions[place] });
    try {
      const { graphPrecision: precision, graphPrecisions } = model;
      precisions = [precision, ...graphPrecisions.filter((other) => other !== precision)];
      results.push({ precision, result: await model.verify() });
    } finally {
      await model.close();
    }
    if (!asJson) {
      print(results[place].precision, results[place].result);
    }
  }
  const passed = results.every(({ result }) => result.passed);
  if (asJson) {
    const verifications = results.map(({ precision, result }) => ({ precision, ...result }));
    console.log(JSON.stringify({ passed, verifications }, null, 2));
  }
  return passed ? 0 : 1;
}

function print(precision: string, result: VerificationResult): void {
  const { minCosine, maxAbsDifference } = result.tolerance;
  const allowed =
    minCosine === null ? `max abs difference <= ${maxAbsDifference?.toExponential(2)}` : `cosine >= ${minCosine}`;
  console.log(`${result.engine}, ${precision}; tolerance: ${allowed}`);
  const width = Math.max(...result.cases.map(({ name }) => name.length));
  for (const one of result.cases) {
    const cosine = one.worstCosine === null ? "" : `  worst cosine ${one.worstCosine.toFixed(7)}`;
    console.log(`  ${one.name.padEnd(width)} max abs difference ${one.maxAbsDifference.toExponential(2)}${cosine}`);
  }
  console.log(result.passed ? `passed: ${result.probes} probes` : `FAILED: ${result.reason}`);
}
