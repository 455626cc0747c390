import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { defineConfig } from "vite";

const folder = join(import.meta.dirname, "..", "build", "demo-site");

/** Lists the files that a visit without a network needs; those for WebGPU are not among them. */
const assets = {
  name: "assets",
  closeBundle() {
    const names = readdirSync(join(folder, "assets")).filter((name) => !/webgpu|asyncify/.test(name));
    writeFileSync(join(folder, "assets.json"), JSON.stringify(names.map((name) => `assets/${name}`)));
  },
};

export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  build: { outDir: folder, emptyOutDir: true, target: "es2022" },
  worker: { format: "es" },
  plugins: [assets],
});
