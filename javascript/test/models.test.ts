import assert from "node:assert/strict";
import { after, test } from "node:test";

import {
  CrossEncoder,
  type EncodeOptions,
  Embedder,
  InputError,
  MonographError,
  type Precision,
  SparseEncoder,
} from "../src/node.js";
import { committed } from "./fixtures.js";

const options = { threads: 1 };
const embedder = await Embedder.open(committed("embedding"), options);
const reranker = await CrossEncoder.open(committed("rerank"), options);
const sparse = await SparseEncoder.open(committed("sparse"), options);
const routed = await SparseEncoder.open(committed("sparse-routes"), options);
after(async () => {
  await Promise.all([embedder, reranker, sparse, routed].map((model) => model.close()));
});

const TEXTS = ["a boat", "", "The weather is lovely today, and so it was yesterday.", "a boat", "天気がいい"];

function largestDifference(one: ArrayLike<number>, other: ArrayLike<number>): number {
  assert.equal(one.length, other.length);
  return Math.max(0, ...Array.from(one, (value, place) => Math.abs(value - other[place])));
}

test("one text gives a vector, an array an array in its order", async () => {
  const vectors = await embedder.encode(TEXTS);
  assert.equal(vectors.length, TEXTS.length);
  for (const [place, text] of TEXTS.entries()) {
    const alone = await embedder.encode(text);
    assert.ok(alone instanceof Float32Array);
    assert.equal(alone.length, embedder.dimension);
    assert.ok(largestDifference(alone, vectors[place]) < 1e-6);
  }
  assert.deepEqual(vectors[0], vectors[3]);
  assert.deepEqual(await embedder.encode([]), []);
});

test("batches of any size give the same vectors", async () => {
  const texts = Array.from({ length: 150 }, (_, length) => "word ".repeat(length % 70) + length);
  const vectors = await embedder.encode(texts);
  const small = await embedder.encode(texts, { batchSize: 3 });
  assert.ok(Math.max(...vectors.map((vector, place) => largestDifference(vector, small[place]))) < 1e-6);
});

test("texts of any iterable give the vectors of an array, in blocks of bounded size", async () => {
  const texts = Array.from({ length: 2050 }, (_, number) => `line ${number % 40}`);
  async function* lines(): AsyncGenerator<string> {
    yield* texts;
  }
  const expected = await embedder.encode(texts, { truncateDim: 8 });
  for (const source of [new Set(["a", "b"]), lines()]) {
    const sizes = [];
    let place = 0;
    for await (const block of embedder.encodeIter(source, { truncateDim: 8 })) {
      sizes.push(block.length);
      if (!(source instanceof Set)) {
        assert.ok(block.every((vector, row) => largestDifference(vector, expected[place + row]) < 1e-6));
      }
      place += block.length;
    }
    assert.deepEqual(sizes, source instanceof Set ? [2] : [2048, 2]);
  }
});

test("an iterable's options are checked at the call, and its texts as they are read", async () => {
  assert.throws(() => embedder.encodeIter(["a"], { truncateDim: 0 }), InputError);
  assert.throws(() => embedder.encodeIter("abc"), /texts must be an iterable of strings, got a string/);
  assert.throws(() => embedder.encodeIter(7 as unknown as string[]), InputError);
  const vectors = embedder.encodeIter(["a", null as unknown as string]);
  await assert.rejects(vectors.next(), /text 1 must be a string, got null/);
});

test("prompts are those of the model, of their name or the caller's", async () => {
  const [plain, query] = [await embedder.encode("a boat"), await embedder.encodeQuery("a boat")];
  assert.deepEqual(query, await embedder.encode("search: a boat"));
  assert.deepEqual(query, await embedder.encode("a boat", { promptName: "query" }));
  assert.deepEqual(await embedder.encode("a boat", { promptName: "passage" }), await embedder.encode("text: a boat"));
  // Its prompt for documents is empty.
  assert.deepEqual(await embedder.encodeDocument("a boat"), plain);
  assert.deepEqual(await embedder.encodeQuery("a boat", { prompt: "" }), plain);
  await assert.rejects(embedder.encode("a boat", { promptName: "no" }), /it has: "query", "document", "passage"/);
});

test("vectors are truncated, normalized and quantized", async () => {
  const vector = await embedder.encode("a boat");
  const short = await embedder.encode("a boat", { truncateDim: 10 });
  assert.deepEqual(short, vector.slice(0, 10));
  const unit = await embedder.encode("a boat", { truncateDim: 10, normalize: true });
  assert.ok(Math.abs(Math.hypot(...unit) - 1) < 1e-6);
  const bits = await embedder.encode("a boat", { truncateDim: 10, precision: "ubinary" });
  const expected = Array.from(short, (value) => (value > 0 ? "1" : "0")).join("").padEnd(16, "0");
  assert.equal(Array.from(bits, (byte) => byte.toString(2).padStart(8, "0")).join(""), expected);
  const signed = await embedder.encode("a boat", { truncateDim: 10, precision: "binary" });
  assert.deepEqual(Array.from(signed), Array.from(bits, (byte) => byte - 128));
  const ranges = [short.map((value) => value - 1), short.map((value) => value + 1)] as const;
  const levels = await embedder.encode("a boat", { truncateDim: 10, precision: "uint8", ranges });
  assert.ok(levels.every((level) => level >= 126 && level <= 128));
  const int8 = await embedder.encode("a boat", { truncateDim: 10, precision: "int8", ranges });
  assert.deepEqual(Array.from(int8), Array.from(levels, (level) => level - 128));
  await assert.rejects(embedder.encode("a boat", { precision: "int8" }), /needs ranges/);
});

test("similarity is the model's", async () => {
  const [boat, ship] = await embedder.encode(["a boat", "a ship"], { normalize: true });
  const [[same, other]] = embedder.similarity(boat, [boat, ship]);
  assert.ok(Math.abs(same - 1) < 1e-6);
  assert.ok(other < same);
  assert.ok(Math.abs(embedder.similarityPairwise([boat], [ship])[0] - other) < 1e-6);
  assert.throws(() => embedder.similarity(boat, boat.slice(1)), InputError);
});

test("what is no text or option is an error that says where", async () => {
  const encode = async (texts: unknown, settings: unknown = {}): Promise<unknown> =>
    embedder.encode(texts as string, settings as EncodeOptions<Precision>);
  await assert.rejects(encode(["a", null]), /text 1 must be a string, got null/);
  await assert.rejects(encode(7), /texts must be a string or an array of strings, got 7/);
  await assert.rejects(encode(["\ud800"]), /text 0 holds a lone surrogate/);
  await assert.rejects(encode("a", { batchSize: 0 }), /batchSize must be a positive integer, got 0/);
  await assert.rejects(encode("a", { precision: "float16" }), /precision a string is not one of/);
  await assert.rejects(encode("a", { task: "query" }), /leave task out/);
  await assert.rejects(Embedder.open(committed("embedding"), { threads: 0.5 }), /threads must be a positive integer/);
});

test("calls report progress and stop at a signal", async () => {
  const done: number[] = [];
  await embedder.encode(TEXTS, { batchSize: 1, onProgress: (progress) => done.push(progress.done) });
  assert.deepEqual(done, [1, 2, 3, 4]);
  const controller = new AbortController();
  const stopped = embedder.encode(TEXTS, { batchSize: 1, signal: controller.signal, onProgress: () => controller.abort() });
  await assert.rejects(stopped, { name: "AbortError" });
});

test("a closed model is an error", async () => {
  const model = await Embedder.open(committed("embedding"), options);
  await model.close();
  await model.close();
  await assert.rejects(model.encode("a boat"), MonographError);
});

test("pairs are scored and ranked", async () => {
  const documents = ["Berlin has 3.5 million people.", "He drove to the stadium.", "He drove to the stadium."];
  const scores = await reranker.predict(documents.map((text) => ["How many people?", text]));
  assert.equal(scores.length, 3);
  const logits = await reranker.predict([["How many people?", documents[0]]], { activation: "Identity" });
  assert.ok(Math.abs(1 / (1 + Math.exp(-logits[0])) - scores[0]) < 1e-6 || Math.abs(logits[0] - scores[0]) < 1e-6);
  const ranked = await reranker.rank("How many people?", documents, { topK: 2 });
  assert.equal(ranked.length, 2);
  assert.ok(ranked[0].score >= ranked[1].score);
  assert.equal(ranked[0].text, documents[ranked[0].index]);
  await assert.rejects(reranker.predict([["a"]] as never), /pair 0 must be two texts, got 1/);
});

test("sparse vectors have ascending columns and the largest values", async () => {
  const vector = await sparse.encode("The weather is lovely today.");
  assert.ok(vector.indices.length > 3);
  assert.deepEqual(vector.indices, vector.indices.slice().sort());
  const few = await sparse.encode("The weather is lovely today.", { maxActiveDims: 3 });
  assert.deepEqual(few.values.slice().sort(), vector.values.slice().sort().slice(-3));
  const [heaviest] = await sparse.decode(vector, 1);
  assert.equal(heaviest.weight, Math.max(...vector.values));
  const norm = vector.values.reduce((sum, value) => sum + value * value, 0);
  assert.ok(Math.abs(sparse.similarity([vector], [vector])[0][0] - norm) < 1e-3 * norm);
});

test("routes are chosen by the task", async () => {
  const [query, document] = [await routed.encodeQuery("a boat"), await routed.encodeDocument("a boat")];
  assert.notDeepEqual(query, document);
  assert.deepEqual(await routed.encode("a boat", { task: "query" }), query);
  await assert.rejects(routed.encode("a boat", { task: "no" }), /task "no" is unknown/);
});

test("probes pass", async () => {
  for (const model of [embedder, reranker, sparse, routed]) {
    const result = await model.verify();
    assert.equal(result.reason, "");
    assert.ok(result.maxAbsDifference <= 1e-6, `${model.manifest.source.name}: ${result.maxAbsDifference}`);
  }
});
