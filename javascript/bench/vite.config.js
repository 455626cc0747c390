import { join, resolve } from "node:path";

import { defineConfig } from "vite";

// The folder that has transformers.js in node_modules; without it only the page of this package is built.
const peer = process.env.TRANSFORMERS;
const page = (name) => join(import.meta.dirname, `${name}.html`);

export default defineConfig({
  root: import.meta.dirname,
  resolve: {
    alias: peer === undefined ? {} : { "@huggingface/transformers": resolve(peer, "node_modules/@huggingface/transformers/dist/transformers.web.js") },
  },
  build: {
    outDir: "../build/bench",
    emptyOutDir: true,
    target: "es2022",
    rolldownOptions: { input: [page("monograph"), ...(peer === undefined ? [] : [page("transformers")])] },
  },
  worker: { format: "es" },
});
