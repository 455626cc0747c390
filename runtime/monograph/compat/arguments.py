"""Arguments of sentence-transformers that change nothing here: accepted at the values that change nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any

from monograph.errors import InputError
from monograph.inputs import check_count
from monograph.similarity import SIMILARITIES

# What `start_multi_process_pool` returns, by the keys of sentence-transformers: no process beside this one.
Pool = Mapping[str, Any]
# A device of sentence-transformers: a str or torch.device; or several, among which it shares the texts.
Device = str | Any
_CPUS = ("cpu", "openvino:CPU")


def either(**names: Any) -> Any:
    """Return an argument that was given by one of the names that it has; None where it was not given.

    Raises:
        InputError: it was given under two names.

    """
    given = {name: value for name, value in names.items() if value is not None}
    if len(given) > 1:
        raise InputError(f"give either {' or '.join(given)}, which are two names of the same argument")
    return next(iter(given.values()), None)


def check_ignored(
    own_device: str,
    *,
    output_value: str | None = "sentence_embedding",
    device: Device | Sequence[Device] | None = None,
    pool: Pool | None = None,
    chunk_size: int | None = None,
) -> None:
    """Check arguments that this package has no use for.

    Raises:
        InputError: one asks for another result, or for other devices than the model's; it says what to do instead.

    """
    if output_value not in ("sentence_embedding", "token_embeddings"):
        raise InputError(
            f"output_value {output_value!r} is not 'sentence_embedding' or 'token_embeddings': leave it out"
        )
    if device is not None:
        check_same_device(device, own_device)
    if pool is not None:
        check_pool(pool)
    if chunk_size is not None:
        check_count(chunk_size, "chunk_size")


def check_pool(pool: Pool) -> None:
    """Check that a pool is one that ``start_multi_process_pool`` returned.

    Raises:
        InputError: it is not.

    """
    if not isinstance(pool, Mapping) or pool.get("processes") != []:
        raise InputError(
            "pool is not one of a model's start_multi_process_pool(): leave it out, for an engine uses every CPU"
        )


def check_same_device(device: Device | Sequence[Device], own_device: str) -> None:
    """Check that a call names no other device than that which the model was opened on.

    Raises:
        InputError: it does.

    """
    for one in device if isinstance(device, (list, tuple)) else [device]:
        name = device_name(one)
        if name != own_device and f"{name}:0" != own_device and not (name == "cpu" and own_device in _CPUS):
            raise InputError(
                f"device {name!r}: this model runs on {own_device!r}: leave device out, or open a model on each device "
                "and share the texts among them"
            )


def device_name(device: Device) -> Any:
    """Return a torch.device as text, and any other device as it is, for those who open a device to check."""
    return str(device) if type(device).__module__ == "torch" else device


def check_similarity(name: object, known: Collection[str] = tuple(SIMILARITIES)) -> str:
    """Return the name of one of the known similarity functions, given as a str or an enumeration member.

    Raises:
        InputError: it is not one.

    """
    value = name.value if isinstance(name, Enum) else name
    if not isinstance(value, str) or value not in known:
        raise InputError(f"similarity_fn_name {value!r} is not one of {', '.join(known)}")
    return value


def activation_name(activation: object) -> Any:
    """Return a torch module as the name of its class, such as "Sigmoid" of torch.nn.Sigmoid(); else what was given."""
    kind = type(activation)
    return kind.__name__ if kind.__module__.startswith("torch.nn.") else activation
