import { defineConfig } from "vite";

export default defineConfig({
  root: import.meta.dirname,
  build: { outDir: "../../build/browser", emptyOutDir: true, target: "es2022" },
  worker: { format: "es" },
});
