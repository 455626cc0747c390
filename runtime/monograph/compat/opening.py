"""Constructor arguments of sentence-transformers, turned into those that a bundle is opened with."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from monograph.compat.arguments import Device, device_name
from monograph.errors import BundleError, InputError
from monograph.hub import HubAccess, parse_hub_name
from monograph.paths import user_path

# The devices that run what a backend of sentence-transformers is, the default first.
_BACKENDS = {"onnx": ("cpu", "cuda"), "openvino": ("openvino",)}
# What sentence-transformers computes in by default: scripts that say so ask for nothing in particular.
_DEFAULT_BACKEND = "torch"
_ADVICE = {
    "model_kwargs": "choose a type with compute_dtype=, a precision with quality=, and an engine with device=",
    "processor_kwargs": "the tokenizer is part of the bundle: set max_seq_length, or export the model again",
    "tokenizer_kwargs": "the tokenizer is part of the bundle: set max_seq_length, or export the model again",
    "config_kwargs": "the configuration is part of the graph: export the model again",
    "modules": "a bundle is exported from them: save the model and export its folder with `monograph export`",
    "model_card_data": "a model card belongs to the checkpoint, not to a bundle",
}
# Keys of these that change no vector here, whatever their value: how torch loads weights and computes attention.
_HARMLESS_KEYS = frozenset(
    (
        "attn_implementation",
        "low_cpu_mem_usage",
        "use_safetensors",
        "export",
        "use_fast",
        "clean_up_tokenization_spaces",
    )
)
_DTYPE_KEYS = ("torch_dtype", "dtype")
# Names of arguments in older releases of sentence-transformers, and in other libraries, with what they are here.
_FORMER_NAMES = {
    "model_name": "give the bundle first, or by the name model_name_or_path",
    "model": "give the bundle first, or by the name model_name_or_path",
    "use_auth_token": "its name is token",
    "automodel_args": _ADVICE["model_kwargs"],
    "model_args": _ADVICE["model_kwargs"],
    "tokenizer_args": _ADVICE["tokenizer_kwargs"],
    "config_args": _ADVICE["config_kwargs"],
    "classifier_dropout": _ADVICE["config_kwargs"],
    "default_activation_function": "its name is activation_fn",
    "activation_fct": "its name is activation_fn",
    "precision": "of vectors, give it to encode; of a bundle that has several, quality= chooses",
    "batch_size": "give it to encode",
    "normalize_embeddings": "give it to encode",
    "max_seq_length": "set it on the model that is open",
}


def resolve_device(device: Device | None, backend: str | None) -> Any:
    """Return the device to open a model on.

    Raises:
        InputError: the backend is not one of sentence-transformers, or does not run on the device.

    """
    name = None if device is None else device_name(device)
    if backend is None or backend == _DEFAULT_BACKEND:
        return "auto" if name is None else name
    if backend not in _BACKENDS:
        known = " or ".join(map(repr, _BACKENDS))
        raise InputError(
            f"backend must be {known}, got {backend!r}: leave it out for the best engine that is installed"
        )
    kinds = _BACKENDS[backend]
    if name is None or (name == "cpu" and backend == "openvino"):
        return kinds[0]
    if not isinstance(name, str) or name.partition(":")[0] not in kinds:
        raise InputError(f"backend {backend!r} does not run on device {name!r}: leave one of them out")
    return name


def resolve_source(path: str | os.PathLike[str], revision: str | None) -> str | os.PathLike[str]:
    """Return a bundle's path or name, with the revision of a repository.

    Raises:
        BundleError: the path is neither a str nor a path.
        InputError: a revision was given for a folder, or a second one for a repository.

    """
    if revision is None:
        return path
    if not isinstance(path, (str, os.PathLike)):
        raise BundleError(path, [f"it must be a str or a path, got {type(path).__name__}"])
    name = parse_hub_name(path) if isinstance(path, str) and not os.path.lexists(user_path(path)) else None
    if name is None:
        raise InputError(f"revision {revision!r} is for repositories on a Hub, and {path} is a folder: leave it out")
    if name.revision not in (None, revision):
        raise InputError(f"revision {revision!r}: {path} names another one: give one of them")
    return f"{name.repository}@{revision}"


def resolve_cache(
    cache_dir: str | os.PathLike[str] | None, cache_folder: str | os.PathLike[str] | None
) -> str | os.PathLike[str] | None:
    """Return the cache's folder, given by either of its two names.

    Raises:
        InputError: both were given.

    """
    if cache_dir is not None and cache_folder is not None:
        raise InputError("cache_dir and cache_folder are two names of the same folder: give one of them")
    return cache_folder if cache_dir is None else cache_dir


def resolve_access(token: str | bool | None, local_files_only: bool) -> HubAccess:
    """Return how a Hub is reached.

    Raises:
        InputError: the token is not one.

    """
    if token is not None and not isinstance(token, (str, bool)):
        raise InputError(f"token must be a str, True, False or None, got {type(token).__name__}")
    return HubAccess(token, bool(local_files_only))


class OptionRefusedError(InputError, TypeError):
    """A keyword was given that a constructor or method does not have."""


def refuse_unknown(kind: str, unknown: Collection[str], advice: str) -> None:
    """Refuse keywords that a class does not have, and say what to do about any of them.

    Raises:
        OptionRefusedError: there are any; it names the class that the caller knows, and what to give instead.

    """
    if unknown:
        parts = [repr(name) if name not in _FORMER_NAMES else f"{name!r} ({_FORMER_NAMES[name]})" for name in unknown]
        raise OptionRefusedError(f"{kind} has no argument {', '.join(parts)}: {advice}")


def refuse_torch_options(compute_dtype: str, **options: Mapping[str, Any] | object) -> None:
    """Refuse options of a torch model that ask for something else than the bundle does.

    None, False and an empty dict ask for nothing; so do keys that only say how torch loads a model, and a type that is
    ``compute_dtype``, which the model is opened with.

    Raises:
        InputError: naming the option, and what to do instead.

    """
    for name, value in options.items():
        requested = _requested(value, compute_dtype) if isinstance(value, Mapping) else value
        if isinstance(requested, dict) and any(requested.get(key) for key in _DTYPE_KEYS):
            dtype = next(_name_of_dtype(requested[key]) for key in _DTYPE_KEYS if key in requested)
            raise InputError(f"{name}={value!r}: give the type itself, compute_dtype={dtype!r}")
        if requested is not None and requested is not False and requested != {}:
            raise InputError(f"{name}={requested!r} is not for a bundle: {_ADVICE[name]}")


def _requested(options: Mapping[str, Any], compute_dtype: str) -> dict[str, Any]:
    """Return the items of a dict of torch's options that would make a difference."""
    accepted = (None, "auto", compute_dtype)
    return {
        key: value
        for key, value in options.items()
        if value is not None
        and key not in _HARMLESS_KEYS
        and not (key in _DTYPE_KEYS and _name_of_dtype(value) in accepted)
    }


def _name_of_dtype(dtype: object) -> str:
    """Return "float32" for itself and for torch.float32."""
    return str(dtype).removeprefix("torch.")
