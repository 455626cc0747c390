"""What models with vectors share: the names of sentence-transformers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from monograph.compat.arguments import check_similarity
from monograph.compat.model import FamiliarModel
from monograph.model import Role
from monograph.similarity import SIMILARITIES
from monograph.tasks.base import SectionT


class VectorModel(FamiliarModel[SectionT]):
    """A model of texts to vectors."""

    __slots__ = ()
    _similarities: ClassVar[Collection[str]] = tuple(SIMILARITIES)

    @property
    def dimension(self) -> int:
        """Columns of the vectors."""
        raise NotImplementedError

    def prompt_and_task(
        self, role: Role, prompt_name: str | None = None, prompt: str | None = None
    ) -> tuple[str | None, str | None]:
        """Return the ``prompt_name`` and the ``task`` that ``encode_query`` or ``encode_document`` gives to ``encode``.

        The first is what is given, or, with neither ``prompt_name`` nor ``prompt``, the name of the model's prompt for
        that role, "query" or "document"; None for none. The second is None for a model without a Router.
        """
        return self._prompt_and_task(role, prompt_name, prompt)

    def get_embedding_dimension(self) -> int:
        """Return ``dimension``."""
        return self.dimension

    def get_sentence_embedding_dimension(self) -> int:
        """Return ``dimension``."""
        return self.dimension

    @property
    def similarity_fn_name(self) -> str:
        """Name of the similarity function: "cosine", "dot", "euclidean" or "manhattan".

        Of token vectors it is "maxsim" or "meanmaxsim". It can be set; None is for that of the bundle.
        """
        section: Any = self._section
        return str(section.similarity)

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | None) -> None:
        name = self.manifest.section.similarity if value is None else check_similarity(value, self._similarities)
        self._change_defaults(lambda defaults: defaults.with_options(similarity=name))
