"""What a call takes where its caller gives nothing: prompts, the task's options and the maximum length, as set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Self

from monograph.bundle.manifest import Manifest
from monograph.errors import InputError
from monograph.inputs import check_named
from monograph.tasks.base import SectionT


@dataclass(frozen=True)
class CallDefaults(Generic[SectionT]):
    """The manifest's prompts and section, or what a user set in their place.

    ``max_length`` is the number of tokens that a user set, None for the bundle's own.
    """

    section: SectionT
    prompts: dict[str, str]
    default_prompt_name: str | None
    max_length: int | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return what a bundle states."""
        return cls(manifest.section, dict(manifest.prompts), manifest.default_prompt_name)

    def with_prompts(self, prompts: object) -> Self:
        """Return these with other prompts.

        Raises:
            InputError: they are no prompts by name, or leave out the default one.

        """
        return replace(self, prompts=check_prompts(prompts)).with_default_prompt(self.default_prompt_name)

    def with_default_prompt(self, name: str | None) -> Self:
        """Return these with another default prompt, None for none.

        Raises:
            InputError: there is no prompt of this name.

        """
        if name is not None and (not isinstance(name, str) or name not in self.prompts):
            known = ", ".join(map(repr, self.prompts)) or "none"
            raise InputError(f"default_prompt_name {name!r} is not among the prompts; these are: {known}")
        return replace(self, default_prompt_name=name)

    def with_options(self, **options: Any) -> Self:
        """Return these with other values in the section's fields."""
        section: Any = self.section
        return replace(self, section=replace(section, **options))


def check_prompts(prompts: object) -> dict[str, str]:
    """Return prompts by name as a dict of their own; None stands for an empty prompt.

    Raises:
        InputError: naming what is not a str.

    """
    if not isinstance(prompts, Mapping):
        raise InputError(f"prompts must be a dict of prompts by name, got {type(prompts).__name__}")
    return {
        check_named(name, "the name of a prompt"): "" if prompt is None else check_named(prompt, f"the prompt {name!r}")
        for name, prompt in prompts.items()
    }
