// Serve the built demo on loopback with a bundle: node scripts/serve-demo.mjs BUNDLE
import { join, resolve } from "node:path";

import { serve } from "./serve.mjs";

const [bundle] = process.argv.slice(2);
if (bundle === undefined) {
  console.error("usage: npm run demo -- BUNDLE");
  process.exit(2);
}
const folder = join(import.meta.dirname, "..", "build", "demo-site");
const { url } = await serve(folder, { "minilm-int8": resolve(bundle) }, { isolated: true });
console.log(`${url} (stop with Ctrl+C)`);
