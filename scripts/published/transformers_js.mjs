// Embed texts with a published folder in transformers.js: PACKAGES FOLDER TEXTS.json VECTORS.json
// PACKAGES is the folder that has node_modules.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";

const [packages, folder, textsFile, output] = process.argv.slice(2);
const { AutoModel, AutoTokenizer, env, pipeline } = createRequire(join(packages, "package.json"))(
  "@huggingface/transformers",
);
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const name = basename(folder);
const texts = JSON.parse(readFileSync(textsFile, "utf8"));
const versionOf = (packageName) =>
  JSON.parse(readFileSync(join(packages, "node_modules", packageName, "package.json"), "utf8")).version;
const versions = `transformers.js ${versionOf("@huggingface/transformers")}, onnxruntime-node ${versionOf("onnxruntime-node")}`;
const BATCH = 16;

async function embed(batchOfVectors) {
  const vectors = [];
  for (let begin = 0; begin < texts.length; begin += BATCH) {
    vectors.push(...(await batchOfVectors(texts.slice(begin, begin + BATCH))).tolist());
  }
  return vectors;
}

const options = { device: "cpu", dtype: "fp32" };
const extractor = await pipeline("feature-extraction", name, options);
const tokenizer = await AutoTokenizer.from_pretrained(name);
const model = await AutoModel.from_pretrained(name, options);
const results = {
  [`${versions}: pipeline`]: await embed((batch) => extractor(batch, { pooling: "mean", normalize: true })),
  [`${versions}: AutoModel, sentence_embedding`]: await embed(async (batch) => {
    const { sentence_embedding } = await model(await tokenizer(batch, { padding: true, truncation: true }));
    return sentence_embedding;
  }),
};
writeFileSync(output, JSON.stringify(results));
