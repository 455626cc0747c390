import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { defineConfig } from "vite";

const folder = join(import.meta.dirname, "..", "build", "demo-site");
const FILES = 'const FILES = ["./"];';

/** Puts the files that a visit without a network needs into the service worker; those for WebGPU are not among them. */
const offline = {
  name: "offline",
  closeBundle() {
    const names = readdirSync(join(folder, "assets")).filter((name) => !/webgpu|asyncify/.test(name));
    const path = join(folder, "service-worker.js");
    const source = readFileSync(path, "utf8");
    if (!source.includes(FILES)) {
      throw new Error(`service-worker.js lacks the line ${FILES}`);
    }
    const files = JSON.stringify(["./", ...names.map((name) => `assets/${name}`)]);
    writeFileSync(path, source.replace(FILES, () => `const FILES = ${files};`));
  },
};

export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  build: { outDir: folder, emptyOutDir: true, target: "es2022" },
  worker: { format: "es" },
  plugins: [offline],
});
