import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { scanGraph } from "../src/bundle/graph-scanner.js";
import { committed } from "./fixtures.js";

const folder = committed("embedding");
const graph = new Uint8Array(readFileSync(join(folder, "model.onnx")));
const weights = { name: "model.onnx.data", bytes: statSync(join(folder, "model.onnx.data")).size };

/** The bytes of a protobuf field that holds bytes. */
function field(number: number, content: Uint8Array | string): Buffer {
  const bytes = Buffer.from(content);
  const varint = (value: number): number[] => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >> 7)]);
  return Buffer.concat([Buffer.from([...varint((number << 3) | 2), ...varint(bytes.length)]), bytes]);
}

/** A model with a graph of some parts. */
function modelWith(...parts: Uint8Array[]): Uint8Array {
  return field(7, Buffer.concat(parts));
}

function externalTensor(places: Record<string, string>): Buffer {
  const entries = Object.entries(places).map(([key, value]) => field(13, Buffer.concat([field(1, key), field(2, value)])));
  // dims = [1], data_type = FLOAT, data_location = EXTERNAL
  return field(5, Buffer.concat([Buffer.from([0x08, 1, 0x10, 1]), field(8, "w"), ...entries, Buffer.from([0x70, 1])]));
}

test("graphs of committed bundles have no problems", () => {
  assert.deepEqual(scanGraph(graph, weights, ["ai.onnx"]), []);
});

const PLACE = { location: "model.onnx.data", offset: "0", length: "4" };
const REFUSED: readonly (readonly [RegExp, Uint8Array])[] = [
  [/weights at "\/etc\/passwd"/, modelWith(externalTensor({ ...PLACE, location: "/etc/passwd" }))],
  [/beyond the end/, modelWith(externalTensor({ ...PLACE, offset: "99999999" }))],
  [/no number/, modelWith(externalTensor({ ...PLACE, offset: "-1" }))],
  [/of 8 bytes, where its shape and type take 4/, modelWith(externalTensor({ ...PLACE, length: "8" }))],
  [/instead of location, offset and length/, modelWith(externalTensor({ location: PLACE.location }))],
  [/operator Loop/, modelWith(field(1, field(4, "Loop")))],
  [/uses operators of "evil"/, modelWith(field(1, Buffer.concat([field(4, "X"), field(7, "evil")])))],
  [/graph within the operator "Foo"/, modelWith(field(1, Buffer.concat([field(4, "Foo"), field(5, field(6, ""))])))],
  [/local functions/, Buffer.concat([modelWith(), field(25, "")])],
  [/options of ONNX Runtime/, Buffer.concat([modelWith(), field(14, field(1, "ort_config"))])],
  [/has the field 7 twice/, Buffer.concat([modelWith(), modelWith()])],
  [/field 15 of wire type 2/, modelWith(field(15, ""))],
  [/truncated/, graph.subarray(0, -1)],
  [/longer than it needs to be/, Buffer.from([0x88, 0x80, 0x00, 1])],
  [/format of ONNX Runtime/, Buffer.from("\0\0\0\0ORTM")],
  [/ModelProto has no graph/, Buffer.from([])],
];

for (const [problem, content] of REFUSED) {
  test(`a graph is refused: ${problem.source}`, () => {
    assert.match(scanGraph(new Uint8Array(content), weights, ["ai.onnx"]).join("\n"), problem);
  });
}
