"""Machines that are rented by the hour: their cores and memory, and what they cost if that is given."""

from __future__ import annotations

import re
from dataclasses import dataclass

from monograph.errors import InputError

_NAME = re.compile(r"(?P<family>[a-z]+\d+[a-z-]*)\.(?P<size>large|xlarge|(?P<times>\d+)xlarge)")
_VCPUS_OF_LARGE, _VCPUS_OF_XLARGE = 2, 4


@dataclass(frozen=True)
class Family:
    """What a vCPU of a family of instances is: how many make a core, and its memory."""

    vcpus_per_core: int
    gib_per_vcpu: float


@dataclass(frozen=True)
class Machine:
    """A machine: physical cores, memory in GiB, and dollars per hour, None if unknown."""

    name: str
    cores: int
    memory_gib: float
    dollars_per_hour: float | None


# A vCPU is a thread of a core, except in C7a, M7a, R7a and Graviton instances, where it is a core:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-optimize-cpu.html. Prices change and are not here.
FAMILIES = {
    "c6i": Family(2, 2),
    "c7i": Family(2, 2),
    "c8i": Family(2, 2),
    "c7a": Family(1, 2),
    "c7g": Family(1, 2),
    "c8g": Family(1, 2),
    "m7i": Family(2, 4),
    "m8i": Family(2, 4),
    "m8g": Family(1, 4),
}


def machine_named(name: str, price: float | None = None) -> Machine:
    """Return the machine of a name such as "c8i.4xlarge", or "16" or "16:64" for cores and GiB of memory.

    ``price`` is in dollars per hour, None if it is unknown.

    Raises:
        InputError: the name is not known.

    """
    cores, _, memory = name.partition(":")
    if _is_count(cores) and (_is_count(memory) or not memory):
        return Machine(name, int(cores), float(memory or 2 * int(cores)), price)
    match = _NAME.fullmatch(name)
    family = FAMILIES.get(match["family"]) if match else None
    if match is None or family is None:
        raise InputError(
            f"machine {name!r} is not known: give an instance of {', '.join(FAMILIES)}, such as c8i.4xlarge, or the "
            "number of its cores and GiB of memory, such as 8:32"
        )
    vcpus = _VCPUS_OF_LARGE if match["size"] == "large" else _VCPUS_OF_XLARGE * int(match["times"] or 1)
    return Machine(name, vcpus // family.vcpus_per_core, vcpus * family.gib_per_vcpu, price)


def _is_count(word: str) -> bool:
    return word.isdecimal() and int(word) > 0
