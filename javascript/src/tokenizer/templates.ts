/** What a post-processor adds to a text or pair: special tokens around it, and type ids. */

import { type Configuration, isObject, listOf, numberOf, objectOf, stepsOf, TokenizerError } from "./configuration.js";

/** A part of a template: one of the texts, or special tokens. */
export type TemplatePart =
  | { readonly text: 0 | 1; readonly typeId: number }
  | { readonly ids: readonly number[]; readonly typeId: number };

/** What becomes of one text, and of a pair. */
export interface Templates {
  readonly single: readonly TemplatePart[];
  readonly pair: readonly TemplatePart[];
}

const PLAIN: Templates = {
  single: [{ text: 0, typeId: 0 }],
  pair: [
    { text: 0, typeId: 0 },
    { text: 1, typeId: 1 },
  ],
};

/** What does the `post_processor` of a tokenizer.json. */
export function createTemplates(configuration: unknown): Templates {
  // ByteLevel only changes offsets.
  const steps = stepsOf(configuration, "processors").filter((step) => step.type !== "ByteLevel");
  if (steps.length > 1) {
    throw new TokenizerError("it has more than one post-processor, which this package does not have");
  }
  const [step] = steps;
  return step === undefined ? PLAIN : createStep(step);
}

/** The number of special tokens that a template adds. */
export function countSpecial(parts: readonly TemplatePart[]): number {
  return parts.reduce((count, part) => count + ("ids" in part ? part.ids.length : 0), 0);
}

function createStep(step: Configuration): Templates {
  switch (step.type) {
    case "TemplateProcessing":
      return { single: readTemplate(step, "single"), pair: readTemplate(step, "pair") };
    case "BertProcessing": {
      const [start, end] = [idOf(step.cls), idOf(step.sep)];
      const single: TemplatePart[] = [special(start, 0), { text: 0, typeId: 0 }, special(end, 0)];
      return { single, pair: [...single, { text: 1, typeId: 1 }, special(end, 1)] };
    }
    case "RobertaProcessing": {
      const [start, end] = [idOf(step.cls), idOf(step.sep)];
      const single: TemplatePart[] = [special(start, 0), { text: 0, typeId: 0 }, special(end, 0)];
      return { single, pair: [...single, special(end, 0), { text: 1, typeId: 0 }, special(end, 0)] };
    }
    default:
      throw new TokenizerError(`it has the post-processor ${String(step.type)}, which this package does not have`);
  }
}

function special(id: number, typeId: number): TemplatePart {
  return { ids: [id], typeId };
}

/** The id of `["[SEP]", 102]`. */
function idOf(value: unknown): number {
  const [, id] = listOf(value);
  if (typeof id !== "number") {
    throw new TokenizerError("its post-processor has a special token without an id");
  }
  return id;
}

function readTemplate(step: Configuration, name: "single" | "pair"): TemplatePart[] {
  const tokens = objectOf(step.special_tokens);
  return listOf(step[name]).map((value) => {
    const piece = objectOf(value);
    if (isObject(piece.Sequence)) {
      return { text: piece.Sequence.id === "B" ? 1 : 0, typeId: numberOf(piece.Sequence.type_id, 0) };
    }
    const { id, type_id: typeId } = objectOf(piece.SpecialToken);
    const ids = listOf(objectOf(tokens[String(id)]).ids).filter((one) => typeof one === "number");
    if (ids.length === 0) {
      throw new TokenizerError(`its template ${name} has the special token ${String(id)}, which has no ids`);
    }
    return { ids, typeId: numberOf(typeId, 0) };
  });
}
