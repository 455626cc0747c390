/** Open a bundle of any task. */

import { CrossEncoder } from "./cross-encoder.js";
import { Embedder } from "./embedder.js";
import { openChecked } from "./model.js";
import type { OpenOptions } from "./platform.js";
import { SparseEncoder } from "./sparse-encoder.js";

/** Open a bundle as the class of its task; the arguments are those of `Embedder.open`. */
export async function load(
  bundle: string | URL,
  options: OpenOptions = {},
): Promise<Embedder | CrossEncoder | SparseEncoder> {
  const host = await openChecked(bundle, options);
  switch (host.info.manifest.task) {
    case "embedding":
      return new Embedder(host);
    case "rerank":
      return new CrossEncoder(host);
    case "sparse":
      return new SparseEncoder(host);
  }
}
