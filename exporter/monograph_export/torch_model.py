"""A model that is loaded in torch, with Sentence Transformers: its graph is traced, and torch is the reference."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.model import BaseModel
from torch import nn
from transformers import PreTrainedModel

from monograph.bundle import Probes
from monograph.bundle.manifest import Routing, Source, TokenizerSpec
from monograph.errors import ExportError
from monograph.inputs import check_named
from monograph.progress import Progress
from monograph_export.arithmetic import reproducible_torch
from monograph_export.checkpoint.checkpoint import Checkpoint
from monograph_export.checkpoint.loaded_tokenizer import (
    check_table,
    check_tokenizer,
    pools_without_prompt,
    spelled_tokens,
    store_tokenizer,
    token_ids,
    tokenizer_of,
)
from monograph_export.checkpoint.routes import RoutedModel
from monograph_export.checkpoint.rust_tokenizer import TOKENIZER_FILE, read_written
from monograph_export.checkpoint.vocabulary_layers import has_transformer, token_table
from monograph_export.compression.compress import Compressed, compress
from monograph_export.compression.gate import Gate
from monograph_export.graph.passes import apply_passes
from monograph_export.graph.store import BuiltGraph, numbered
from monograph_export.graph.trace import trace
from monograph_export.model import ExportRequest, LoadedModel, Tokenizers
from monograph_export.probe_texts import short_probe_texts, texts_to_tokenize, usable_inputs
from monograph_export.tasks import ExportTask
from monograph_export.tasks.base import PRUNING, check_finite, check_varied
from monograph_export.vocabulary.prune import PrunedVocabulary, prune_vocabulary

# Put before texts of models that leave prompts out of their pooling and bring none.
_PROMPT = "Represent the sentence: "
# Of the inputs that a bundle is verified with, every so many-th is one whose token vectors are: they are many values.
_EVERY = 6


def load_torch_model(source: Checkpoint | BaseModel, request: ExportRequest) -> TorchModel:
    """Load a checkpoint, or copy a model that the caller goes on using.

    Raises:
        ExportError: the checkpoint is damaged or incomplete, its tokenizer is another model's, or the request has
            options that such a model does not have.
        UnsupportedModuleError: naming what has no exact graph.

    """
    if isinstance(source, Checkpoint):
        model = TorchModel(
            request.task,
            request.task.load(source, request.additional_outputs),
            source.source,
            request.additional_outputs,
        )
    else:
        model = TorchModel(request.task, request.task.copy(source), _source_of(source), request.additional_outputs)
    model.check(request)
    return model


class TorchModel(LoadedModel):
    """A model of Sentence Transformers and its routes."""

    packages = ("torch", "transformers", "sentence-transformers", "onnx-ir", "onnxscript")

    def __init__(
        self, task: ExportTask[Any], routed: RoutedModel, source: Source, additional_outputs: tuple[str, ...] = ()
    ) -> None:
        self.source = source
        self.prompts: Mapping[str, str] = {
            name: check_named(prompt, f"the prompt {name!r}") for name, prompt in routed.main.prompts.items()
        }
        self.default_prompt_name = routed.main.default_prompt_name
        self._task = task
        self._routed = routed
        self._additional_outputs = additional_outputs

    def arithmetic(self) -> AbstractContextManager[None]:
        """Within this context torch computes the same bits on any number of threads."""
        return reproducible_torch()

    def check(self, request: ExportRequest) -> None:
        """Refuse a tokenizer of another model, and options that the kind of model does not have.

        Raises:
            ExportError: naming them.

        """
        for model in self._routed.routes.values():
            check_table(model)
        compression = request.compression
        options = [
            *([PRUNING] if request.vocabulary.prunes else []),
            *([f"--precision {','.join(request.precisions)}"] if request.precisions != ("fp32",) else []),
        ]
        main = self._routed.main
        if len(self._routed.computed) > 1:
            options += ["--table int8"] if compression.table == "int8" else []
            title = "a model with a Router"
        elif not has_transformer(main):
            title = f"a {type(main[0]).__name__}, which has no layers,"
        else:
            return
        if options:
            raise ExportError(f"{title} is exported as it is: leave out {', '.join(options)}")

    def prune_vocabulary(self, request: ExportRequest, progress: Progress) -> PrunedVocabulary | None:
        """Prune the vocabulary in place as requested, or return None where nothing is to be done."""
        of_recipe = {} if request.recipe is None else request.recipe.prompts
        prompts = dict.fromkeys(filter(None, (*self.prompts.values(), *of_recipe.values())))
        return prune_vocabulary(self._routed.main, self._task, request.vocabulary, list(prompts), progress)

    def store_tokenizers(self, folder: Path) -> Tokenizers:
        """Write the tokenizer of each route; routes with the same share a file."""
        stored: dict[str | None, TokenizerSpec] = {}
        for number, (route, model) in enumerate(self._routed.routes.items()):
            specification = store_tokenizer(model, folder / numbered(TOKENIZER_FILE, number), self._min_length(model))
            specification = self._task.finish_tokenizer(model, specification)
            content = (folder / specification.file).read_bytes()
            same = (other for other in stored.values() if (folder / other.file).read_bytes() == content)
            if other := next(same, None):
                (folder / specification.file).unlink()
                specification = replace(specification, file=other.file)
            stored[route] = specification
        return stored

    def _min_length(self, model: BaseModel) -> int:
        """Return the manifest's ``min_length``: 1 where torch has no output for an input without a token."""
        empty = self._task.empty_input
        if token_ids(model, empty):
            return 0
        try:
            outputs = self._task.outputs(model, [empty])
        except ExportError:
            return 1
        return 0 if np.isfinite(outputs[0]).all() else 1

    def describe_outputs(self) -> Any:
        """Return the task's section of the manifest."""
        return self._task.describe_outputs(self._routed, self._additional_outputs)

    def routing(self, tokenizers: Tokenizers) -> Routing | None:
        """Return how texts are routed, None for a model without routes."""
        by_route = {route: tokenizer for route, tokenizer in tokenizers.items() if route is not None}
        return Routing(by_route, self._routed.tasks, self._routed.default) if by_route else None

    def compress(
        self, request: ExportRequest, pruned: PrunedVocabulary | None, progress: Progress
    ) -> Compressed[Any] | None:
        """Compress the model in place as requested, or return None where nothing is to be done."""
        if len(self._routed.computed) > 1:
            return None
        inputs = request.calibration
        if pruned is not None:
            inputs = inputs.filtered(pruned.vocabularies.usable)
        gate = Gate(self._task, request.limits, inputs.held_out, self.describe_outputs(), self._additional_outputs)
        return compress(self._routed.main, request.compression, inputs, gate, progress)

    def describe_reference(self, compressed: Compressed[Any] | None) -> str:
        """Return in words what the outputs of ``make_probes`` are."""
        rounding = "" if compressed is None else ", with the rounding of the compression"
        alone = self._task.task.inputs.removesuffix("s")
        return f"sentence-transformers in torch, float32, each {alone} alone{rounding}"

    def make_probes(self, folder: Path, tokenizers: Tokenizers, progress: Progress) -> list[Probes]:
        """Return the inputs that the bundle is verified with, and torch's outputs for them, each computed alone.

        A model that leaves prompts out of its pooling has a second set for each route, with a prompt.
        """
        sets: list[Probes] = []
        for route, model in self._routed.routes.items():
            tokenizer, specification = tokenizer_of(model), tokenizers[route]
            max_length, spelled = specification.max_length, spelled_tokens(model)
            written = read_written(folder / specification.file)
            check_tokenizer(model, written, texts_to_tokenize(spelled, max_length))
            known = [token for token in spelled if usable_inputs(written, specification, [token])]
            inputs = self._task.probe_inputs(tokenizer, max_length, known)
            check_tokenizer(model, written, inputs)
            usable = usable_inputs(written, specification, inputs)
            sets.append(self._probes(model, route, usable, progress))
            check_varied(sets[-1].vectors, self._task.task.inputs)
            if pools_without_prompt(model):
                prompt = next(filter(None, model.prompts.values()), _PROMPT)
                prompted = usable_inputs(written, specification, short_probe_texts(), prompt)
                sets.append(self._probes(model, route, prompted, progress, prompt))
            sets += [self._additional_probes(model, route, usable[::_EVERY], name) for name in self._additional_outputs]
        return sets

    def _additional_probes(self, model: BaseModel, route: str | None, inputs: list[Any], output: str) -> Probes:
        """Return probes of an output after the task's own."""
        outputs = self._task.compute_additional_output(model, inputs, output)
        check_finite(outputs)
        counts = (len(token_ids(model, one)) for one in inputs)
        return Probes(tuple(inputs), tuple(counts), outputs, route, output=output)

    def _probes(
        self, model: BaseModel, route: str | None, inputs: list[Any], progress: Progress, prompt: str = ""
    ) -> Probes:
        name = f"Computing the reference{_of_route(route)}{', with a prompt' if prompt else ''}"
        with progress.step(name, len(inputs), self._task.task.inputs) as step:
            outputs = self._task.outputs(model, inputs, prompt=prompt, step=step)
        check_finite(outputs)
        counts = (len(token_ids(model, prompt + one if prompt else one)) for one in inputs)
        return Probes(tuple(inputs), tuple(counts), outputs, route, prompt)

    def build_graphs(self, precision: str, progress: Progress) -> Mapping[str | None, BuiltGraph]:
        """Trace each route and apply the exact passes to its graph."""
        graphs = dict[str | None, BuiltGraph]()
        for route, model in self._routed.computed.items():
            with progress.step(f"Tracing the model{_of_route(route)}"):
                traced = trace(model, self._task, self._additional_outputs)
            graphs[route] = BuiltGraph(apply_passes(traced, progress), precision, _sizes_by_part(model))
        return graphs

    def release_weights(self) -> None:
        """Free the weights; the pages of a checkpoint's file, which is mapped, are resident until then.

        Otherwise they would stay for the verification: onnxscript's rules hold the last graph that they were matched
        with, and that has parameters of the model.
        """
        for model in self._routed.routes.values():
            for weight in (*model.parameters(), *model.buffers()):
                weight.data = torch.empty(0, dtype=weight.dtype)


def _of_route(route: str | None) -> str:
    return "" if route is None else f" of the route {route}"


def _source_of(model: BaseModel) -> Source:
    """Describe a model that was handed over in memory, of which there is no file to hash."""
    config = getattr(model.transformers_model, "config", None)
    name = getattr(config, "_name_or_path", "") or type(model).__name__
    return Source(name=Path(name).name, revision=None, license=None, sha256={})


def _sizes_by_part(model: BaseModel) -> dict[str, int]:
    """Return the bytes of a model's table of token embeddings, of its other layers, and of what comes after them.

    The graph may leave out what no output depends on, and has a table that is also the head's once, so the sum is only
    about that of its weights.
    """
    first, *others = model
    table = _size(token_table(model))
    # The head of a classifier, or of an MLM, is within its Transformer.
    layers = _size(first.auto_model.base_model) if has_transformer(model) else _size(first)
    head = _size(first) - layers + sum(map(_size, others))
    if has_transformer(model) and _is_tied(first.auto_model):
        # What it multiplies with, though the file has it once.
        head += table
    return {"table": table, "layers": layers - table, "head": head}


def _is_tied(transformer: PreTrainedModel) -> bool:
    decoder = transformer.get_output_embeddings()
    return decoder is not None and getattr(decoder, "weight", None) is getattr(
        transformer.get_input_embeddings(), "weight", None
    )


def _size(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
