/** The public names of this package, the same in Node and in a browser. */

export type { FileEntry, Graph, Manifest, Routing, Source, TensorSpec, TokenizerSpec } from "./bundle/manifest.js";
export type { Progress } from "./bundle/source.js";
export { CrossEncoder, type PredictOptions, type RankedDocument, type RankOptions } from "./cross-encoder.js";
export { Embedder, type EncodeOptions } from "./embedder.js";
export { BundleError, DeviceError, InputError, MonographError } from "./errors.js";
export type { SparseVector } from "./inference/sparse-rows.js";
export type { Tolerance, VerificationCase, VerificationResult } from "./inference/verification.js";
export type { Pair } from "./inputs.js";
export { load } from "./load.js";
export type { CallOptions, RoutedOptions } from "./model.js";
export type { OpenOptions } from "./platform.js";
export { type Similarity, similarity, similarityPairwise, type Vector } from "./similarity.js";
export { SparseEncoder, type SparseOptions, type WeightedToken } from "./sparse-encoder.js";
export type { Activation, EmbeddingSection, QualityLevel, RerankSection, SparseSection, Task } from "./tasks/task.js";
export type { Precision, Ranges, VectorTypes } from "./tasks/vectors.js";
