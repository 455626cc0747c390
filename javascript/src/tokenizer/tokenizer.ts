/**
 * Texts to token ids, as the Rust package `tokenizers` does it, truncation included.
 *
 * Of @huggingface/tokenizers only the translation of regular expressions is used: its ids differ for a share of real
 * texts (see README.md), and it does not truncate.
 */

import { type AddedToken, AddedTokenSplitter, readAddedTokens } from "./added-tokens.js";
import { isObject, TokenizerError } from "./configuration.js";
import { createModel, type TokenModel } from "./models.js";
import { createNormalizer, type Normalizer } from "./normalizers.js";
import { createPreTokenizer, type PreTokenizer } from "./pre-tokenizers.js";
import { countSpecial, createTemplates, type Templates } from "./templates.js";
import { readTruncation, truncate, type Truncation } from "./truncation.js";

/** What a model computes an output of: a text, or a pair of texts. */
export type Input = string | readonly [string, string];

/** The tokens of a text or pair: ids and type ids of the same number. */
export interface Encoding {
  readonly ids: readonly number[];
  readonly typeIds: readonly number[];
}

export class Tokenizer {
  readonly #addedTokens: readonly AddedToken[];
  readonly #beforeNormalization: AddedTokenSplitter;
  readonly #afterNormalization: AddedTokenSplitter;
  readonly #normalize: Normalizer;
  readonly #preTokenize: PreTokenizer;
  readonly #model: TokenModel;
  readonly #templates: Templates;
  readonly #truncation: Truncation | undefined;
  #tokens: Map<number, string> | undefined;

  /** Make what a parsed tokenizer.json describes; throws `TokenizerError` if it cannot. */
  constructor(file: unknown) {
    if (!isObject(file)) {
      throw new TokenizerError("it must be an object");
    }
    this.#normalize = createNormalizer(file.normalizer);
    this.#preTokenize = createPreTokenizer(file.pre_tokenizer);
    this.#model = createModel(file.model);
    this.#templates = createTemplates(file.post_processor);
    this.#truncation = readTruncation(file.truncation);
    this.#addedTokens = readAddedTokens(file.added_tokens);
    this.#beforeNormalization = new AddedTokenSplitter(this.#addedTokens.filter((token) => !token.normalized));
    this.#afterNormalization = new AddedTokenSplitter(
      this.#addedTokens.filter((token) => token.normalized),
      this.#normalize,
    );
    for (const template of [this.#templates.single, this.#templates.pair]) {
      const special = countSpecial(template);
      if (this.maxLength !== undefined && special > this.maxLength) {
        throw new TokenizerError(`it adds ${special} special tokens, and truncates to ${this.maxLength}`);
      }
    }
  }

  /** The maximum number of tokens of a text, special tokens included; undefined if texts are not truncated. */
  get maxLength(): number | undefined {
    return this.#truncation?.maxLength;
  }

  encode(input: Input): Encoding {
    const isPair = typeof input !== "string";
    const template = isPair ? this.#templates.pair : this.#templates.single;
    let texts = (isPair ? input : [input]).map((text) => this.#encodeText(text));
    if (this.#truncation !== undefined) {
      texts = truncate(texts, countSpecial(template), this.#truncation);
    }
    const ids: number[] = [];
    const typeIds: number[] = [];
    for (const part of template) {
      for (const id of "ids" in part ? part.ids : texts[part.text]) {
        ids.push(id);
        typeIds.push(part.typeId);
      }
    }
    return { ids, typeIds };
  }

  /** The token of an id, "" for an id that no token has. */
  token(id: number): string {
    if (this.#tokens === undefined) {
      this.#tokens = new Map();
      for (const [token, one] of this.#model.vocabulary) {
        this.#tokens.set(one, token);
      }
      for (const token of this.#addedTokens) {
        this.#tokens.set(token.id, token.content);
      }
    }
    return this.#tokens.get(id) ?? "";
  }

  #encodeText(text: string): number[] {
    const ids: number[] = [];
    for (const section of this.#beforeNormalization.split(text, true)) {
      if ("id" in section) {
        ids.push(section.id);
        continue;
      }
      for (const part of this.#afterNormalization.split(this.#normalize(section.text), section.first)) {
        if ("id" in part) {
          ids.push(part.id);
          continue;
        }
        for (const word of this.#preTokenize([part])) {
          this.#model.encode(word.text, ids);
        }
      }
    }
    return ids;
  }
}
