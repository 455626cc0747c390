// Serve the built demo on loopback with a bundle: node scripts/serve-demo.mjs BUNDLE [--random-weights]
import { basename, join, resolve } from "node:path";

import { demoPage } from "./demo-page.mjs";
import { serve } from "./serve.mjs";

const [bundle, option] = process.argv.slice(2);
if (bundle === undefined) {
  console.error("usage: npm run demo -- BUNDLE [--random-weights]");
  process.exit(2);
}
const folder = join(import.meta.dirname, "..", "build", "demo-site");
const name = basename(resolve(bundle));
const { url } = await serve(folder, { [name]: resolve(bundle) }, { isolated: true });
console.log(`${url}${demoPage(name, option === "--random-weights")} (stop with Ctrl+C)`);
