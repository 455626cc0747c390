// What the checks compute with an open model, in Node and in a page.

/** The outputs for inputs, in one call (`batched`) and in a call each (`alone`): lists of values, of sparse vectors columns and values. */
export async function outputsOf(model, inputs, options = {}) {
  const compute = async (some) => {
    switch (model.manifest.task) {
      case "embedding":
        return (await model.encode(some, options)).map((vector) => Array.from(vector));
      case "rerank": {
        const logits = Array.from(await model.predict(some, { ...options, activation: "Identity" }));
        return some.map((_, row) => logits.slice(row * model.numLabels, (row + 1) * model.numLabels));
      }
      case "sparse":
        return (await model.encode(some, options)).map(({ indices, values }) => [Array.from(indices), Array.from(values)]);
    }
  };
  const batched = await compute(inputs);
  const alone = [];
  for (const input of inputs) {
    alone.push(...(await compute([input])));
  }
  return { batched, alone };
}

/** What the command `conformance` prints: see tests/conformance/README.md. */
export async function conform(model, tokenizer, texts) {
  const { batched, alone } = await outputsOf(model, texts, { prompt: "" });
  return { ids: texts.map((text) => tokenizer.encode(text).ids), alone, batched };
}
