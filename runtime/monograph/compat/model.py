"""The names that models of sentence-transformers have, whatever their task."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Check
from monograph.compat.arguments import Device, Pool, check_pool, check_same_device
from monograph.compat.evaluations import EvaluationResults
from monograph.compat.missing import ADVICE
from monograph.compat.module import ModuleModel
from monograph.compat.opening import (
    refuse_torch_options,
    refuse_unknown,
    resolve_access,
    resolve_cache,
    resolve_device,
    resolve_source,
)
from monograph.compat.tokenizer import FamiliarTokenizer
from monograph.defaults import CallDefaults
from monograph.errors import InputError
from monograph.inference.opening import ModelSource, model_source
from monograph.inputs import Pair, check_count, check_flag, check_pairs, check_texts, resolve_prompt
from monograph.quality import QualityLevel
from monograph.tasks.base import SectionT


class FamiliarType(type):
    """The type of the models' classes, whose representation names sentence-transformers.

    KeyBERT and BERTopic look for that name in it, and without it load a model of their own in place of one that they do
    not know. With it they refuse what is none of sentence-transformers' objects; see ``monograph.integrations``.
    """

    def __repr__(cls) -> str:
        return f"<class '{cls.__module__}.{cls.__qualname__}', by the names of sentence_transformers>"


class FamiliarModel(ModuleModel[SectionT], metaclass=FamiliarType):
    """A model that is opened, configured and called as those of sentence-transformers are.

    The arguments are explained where users read them, at ``Embedder``.

    Raises:
        BundleError: the bundle is missing, damaged (with every problem) or of another task.
        DeviceError: the device or type is not available here, or the bundle failed verification on it.
        InputError: an option is not valid.

    """

    __slots__ = ("_evaluations",)

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        device: Device | None = None,
        compute_dtype: str = "auto",
        threads: int | None = None,
        check: Check = "fast",
        cache_dir: str | os.PathLike[str] | None = None,
        max_tokens_per_batch: int | None = None,
        quality: QualityLevel | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        revision: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        backend: str | None = None,
        trust_remote_code: bool = False,
        modules: object = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: object = None,
        **unknown: object,
    ) -> None:
        # Here, and not by Python, whose message would name this class.
        name = type(self).__name__
        refuse_unknown(name, unknown, f"leave it out; help({name}) lists those that it has")
        check_flag(trust_remote_code, "trust_remote_code")  # a bundle holds no code
        refuse_torch_options(
            compute_dtype,
            modules=modules,
            model_kwargs=model_kwargs,
            processor_kwargs=processor_kwargs,
            tokenizer_kwargs=tokenizer_kwargs,
            config_kwargs=config_kwargs,
            model_card_data=model_card_data,
        )
        source = model_source(
            resolve_source(model_name_or_path, revision),
            resolve_device(device, backend),
            compute_dtype,
            threads,
            check,
            resolve_cache(cache_dir, cache_folder),
            max_tokens_per_batch,
            quality,
        )
        source = replace(source, access=resolve_access(token, local_files_only))
        bundle = source.open_bundle()
        if prompts is not None or default_prompt_name is not None:
            defaults: CallDefaults[SectionT] = CallDefaults.of(bundle.manifest)
            if prompts is not None:
                defaults = defaults.with_prompts({**defaults.prompts, **prompts})
            if default_prompt_name is not None:
                defaults = defaults.with_default_prompt(default_prompt_name)
            source = replace(source, defaults=defaults)
        self._open_bundle(source, bundle)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in ADVICE:
                raise AttributeError(f"{type(self).__name__} has no {name!r}: {ADVICE[name]}", name=name, obj=self)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    @property
    def max_seq_length(self) -> int | None:
        """Maximum number of tokens of a text or pair; longer ones are truncated. None for no limit.

        It can be set to less than the bundle was exported for, and back.
        """
        return self.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        opened = self._open
        stated = opened.routes.stated_max_length
        if value is None and stated is not None:
            raise InputError(f"max_seq_length must be at most the {stated} tokens that the bundle was exported for")
        limit = None if value is None else check_count(value, "max_seq_length")

        def change(defaults: CallDefaults[SectionT]) -> CallDefaults[SectionT]:
            opened.routes.limit_length(limit)
            return replace(defaults, max_length=limit)

        self._change_defaults(change)

    def get_max_seq_length(self) -> int | None:
        """Return ``max_seq_length``."""
        return self.max_length

    @property
    def prompts(self) -> dict[str, str]:
        """The model's prompts by name: a dict that can be changed, or replaced as a whole."""
        return self._open.defaults.prompts

    @prompts.setter
    def prompts(self, value: Mapping[str, str]) -> None:
        self._change_defaults(lambda defaults: defaults.with_prompts(value))

    @property
    def default_prompt_name(self) -> str | None:
        """Name of the prompt of calls that give none; None for no prompt."""
        return self._open.defaults.default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, value: str | None) -> None:
        self._change_defaults(lambda defaults: defaults.with_default_prompt(value))

    @property
    def tokenizer(self) -> FamiliarTokenizer:
        """A tokenizer like the model's, by the names of transformers: read-only, and without truncation."""
        pipeline = self._open.routes.main
        specification = pipeline.specification
        return FamiliarTokenizer(pipeline.tokenizer.without_truncation, self.max_length, specification.pad_id)

    def preprocess(
        self, inputs: Sequence[str] | Sequence[Pair], prompt: str | None = None, *, task: str | None = None
    ) -> dict[str, NDArray[np.int64]]:
        """Return texts, or pairs, as the graph's inputs, int64 [n, s]: ``input_ids``, ``attention_mask`` and others.

        Raises:
            InputError: a text or an option is not valid.

        """
        pipeline = self._open.routes.for_task(task)
        checked = check_pairs(inputs)[0] if self._task.inputs == "pairs" else check_texts(inputs)
        return pipeline.runner.pad_all(pipeline.tokenize(checked, resolve_prompt({}, None, None, prompt)))

    def tokenize(
        self, texts: Sequence[str] | Sequence[Pair], prompt: str | None = None, *, task: str | None = None
    ) -> dict[str, NDArray[np.int64]]:
        """``preprocess`` by its former name."""
        return self.preprocess(texts, prompt, task=task)

    @property
    def modalities(self) -> list[str]:
        """What the model takes: text."""
        return ["text"]

    def supports(self, modality: str) -> bool:
        """Return whether the model takes a modality: "text" only."""
        return modality == "text"

    @property
    def model_card_data(self) -> EvaluationResults:
        """Where evaluators leave their metrics."""
        return self._evaluations

    def evaluate(self, evaluator: Callable[..., Any], output_path: str | os.PathLike[str] | None = None) -> Any:
        """Return what an evaluator of sentence-transformers measures of this model; it writes to ``output_path``."""
        if output_path is not None:
            os.makedirs(output_path, exist_ok=True)  # noqa: PTH103  # a str is what evaluators join names to
        return evaluator(self, output_path)

    def start_multi_process_pool(self, target_devices: Sequence[Device] | None = None) -> Pool:
        """Return a pool for the argument ``pool`` of calls, without any process: the engine uses every CPU already.

        Raises:
            InputError: the devices are others than the model's.

        """
        if target_devices is not None:
            check_same_device(list(target_devices), self.device)
        return {"input": None, "output": None, "processes": []}

    @staticmethod
    def stop_multi_process_pool(pool: Pool) -> None:
        """Do nothing, for the pool has no process.

        Raises:
            InputError: the pool is not one of ``start_multi_process_pool``.

        """
        check_pool(pool)

    def _set_state(self, source: ModelSource, model: Any) -> None:
        super()._set_state(source, model)
        self._evaluations = EvaluationResults()
