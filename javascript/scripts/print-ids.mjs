// Print the token ids of texts, a JSON string (or a pair of them) a line, as a JSON list a line: see tokenizer_ids.py.
import { readFileSync } from "node:fs";

import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";

import { Tokenizer } from "../dist/tokenizer/tokenizer.js";

const [path, ...options] = process.argv.slice(2);
const file = JSON.parse(readFileSync(path, "utf8"));
const library = options.includes("--library");
const tokenizer = library ? new LibraryTokenizer(file, {}) : new Tokenizer(file);
const lines = readFileSync(0, "utf8").split("\n").filter((line) => line !== "");
const inputs = lines.map((line) => JSON.parse(line));
const start = performance.now();
const output = inputs.map((input) => JSON.stringify(tokenizer.encode(input).ids));
process.stderr.write(`${inputs.length} texts in ${Math.round(performance.now() - start)} ms\n`);
process.stdout.write(output.map((line) => `${line}\n`).join(""));
