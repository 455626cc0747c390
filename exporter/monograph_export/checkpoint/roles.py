"""A multi-vector model as it computes texts of one role: queries and documents differ in their tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from monograph.bundle.manifest import Expansion
from monograph.errors import UnsupportedModuleError
from monograph.model import Role
from monograph_export.checkpoint.max_length import NO_LIMIT

# Documents first: what no role is given for is one.
ROLES: tuple[Role, ...] = ("document", "query")


class RoleModel(MultiVectorEncoder):  # type: ignore[misc]
    """The same modules, with texts tokenized for a role: prefix, maximum length and expansion are those of the role."""

    role: Role
    limit: int | None

    @classmethod
    def of(cls, model: MultiVectorEncoder, role: Role) -> RoleModel:
        """Return a model as it computes a role; the modules are the model's own."""
        made: RoleModel = cls.__new__(cls)
        made.__dict__.update(model.__dict__)
        made.role, made.limit = role, None
        return made

    @property
    def expansion(self) -> dict[str, Any] | None:
        """How short texts of the role are filled up, by the names of Sentence Transformers; None for not at all."""
        filled: dict[str, Any] | None = self[0].query_expansion
        return filled if self.role == "query" else None

    @property
    def max_seq_length(self) -> int | None:
        """The number of tokens that texts of the role are truncated to."""
        if self.limit is not None:
            return self.limit
        stated: int | None = self[0].query_length if self.role == "query" else self[0].document_length
        if (expansion := self.expansion) is not None:
            if expansion["strategy"] == "fixed":
                return int(expansion["length"])
            stated = None if stated is None else max(stated, expansion["length"])
        return stated if stated is not None else self[0].max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        if value >= NO_LIMIT:
            self[0].max_seq_length = value
            return
        if (expansion := self.expansion) is not None and value < expansion["length"]:
            raise UnsupportedModuleError(
                f"query_expansion fills queries up to {expansion['length']} tokens, and the model has positions for "
                f"{value}: set a shorter length in its sentence_bert_config.json"
            )
        self.limit = value

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **options: Any) -> dict[str, Any]:
        """Return texts of the role as the inputs of the first module."""
        options["task"] = self.role
        if self.limit is not None:
            options["max_length"] = self.limit
        features: dict[str, Any] = super().preprocess(inputs, prompt, **options)
        return features


def expansion_of(model: RoleModel) -> Expansion | None:
    """Return how a role's short texts are filled up, as the manifest has it."""
    stated = model.expansion
    if stated is None:
        return None
    tokenizer = model.tokenizer
    if stated["token"] is not None:
        id_ = tokenizer.convert_tokens_to_ids(stated["token"])
    else:
        # The order of Sentence Transformers; without either, what pads remains.
        known = (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        id_ = next(one for one in known if one is not None)
    return Expansion(int(stated["length"]), int(id_), bool(stated["attend"]))


def skipped_ids_of(model: RoleModel) -> tuple[int, ...]:
    """Return the ids of the tokens whose vectors are left out of the role's texts, ascending."""
    skipped: set[int] = set()
    for module in model:
        # By an attribute that it does not document, as it is in 6.2: the probes would notice another.
        if isinstance(module, MultiVectorMask) and model.role in module.skiplist_tasks:
            skipped.update([] if module._skiplist_ids is None else module._skiplist_ids.tolist())
    return tuple(sorted(skipped))
