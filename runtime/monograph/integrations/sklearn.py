"""scikit-learn: a bundle as transformer of texts to vectors, for pipelines."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.integrations.frameworks import BundlePath, LazyModel, absolute, check_texts_of, missing, open_embedder

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
except ImportError as error:
    raise missing("scikit-learn", error) from error


class MonographTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Texts to float32 [n, d], as a step of a pipeline. There is nothing to fit.

    A bundle is opened when it is first needed. Clones, such as those of a grid search, share the open model; a pickled
    transformer opens the bundle again.

    Args:
        model: A bundle's path, or an open ``Embedder``.
        device: Where a bundle is opened; None for the best device.
        prompt_name: Name of a prompt of the model, which is prepended to each text; None for the model's default.
        batch_size: The maximum number of texts in a batch; None for the fastest choice.
        normalize_embeddings: Normalize each vector to unit length.
        truncate_dim: Keep only the first dimensions; None for the model's default.

    Raises:
        BundleError: the bundle is missing, damaged or of another task; raised by ``fit`` and ``transform``.
        DeviceError: the device cannot run the bundle.
        InputError: an argument or a text is not valid.

    """

    # scikit-learn reads and copies arguments by the names of __init__, as they were given.
    def __init__(
        self,
        model: Embedder | BundlePath,
        *,
        device: str | None = None,
        prompt_name: str | None = None,
        batch_size: int | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.prompt_name = prompt_name
        self.batch_size = batch_size
        self.normalize_embeddings = normalize_embeddings
        self.truncate_dim = truncate_dim

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002, N803  # the names of scikit-learn
        """Open the bundle; texts and labels are not used."""
        self._embedder()
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Return the vectors of texts: a list of str, or an array or pandas object of str, [n] or [n, 1].

        Returns:
            float32 [n, d].

        Raises:
            InputError: a text is not valid, or these are not texts.

        """
        return np.asarray(
            self._embedder().encode(
                as_texts(X),
                prompt_name=self.prompt_name,
                batch_size=self.batch_size,
                normalize_embeddings=self.normalize_embeddings,
                truncate_dim=self.truncate_dim,
            )
        )

    @property
    def _n_features_out(self) -> int:
        dimension = self._embedder().dimension
        return dimension if self.truncate_dim is None else min(self.truncate_dim, dimension)

    def _embedder(self) -> Embedder:
        # Not made by __init__, which sets arguments only. That of a dict sets it once for all threads.
        lazy: LazyModel[Embedder] = self.__dict__.setdefault("_lazy", LazyModel(open_embedder))
        # A grid search sets other arguments on a clone.
        return lazy.get(self.model, self.device)

    def __sklearn_clone__(self) -> Self:
        # Not that of scikit-learn, which would copy an open model.
        arguments = self.get_params(deep=False)
        clone = type(self)(**arguments)
        # How output is set, metadata are routed, and whatever else is set beside arguments.
        for name in self.__dict__.keys() - arguments.keys():
            clone.__dict__[name] = copy.copy(self.__dict__[name])
        return clone

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        # It may be loaded in another folder.
        return {**state, "model": absolute(state["model"])}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags


def as_texts(texts: Any) -> Any:
    """Return a column of texts, [n, 1], as texts [n], also one that is a list of lists; anything else as it is.

    Raises:
        InputError: there are several columns, or it is one text.

    """
    check_texts_of(texts)
    if isinstance(texts, list | tuple) and texts and all(isinstance(row, list | tuple) for row in texts):
        widths = {len(row) for row in texts}
        if widths != {1}:
            raise InputError(f"texts must be one column, got {max(widths)}: choose one with a ColumnTransformer")
        return [row[0] for row in texts]
    shape = getattr(texts, "shape", None)
    if shape is None or len(shape) != 2:
        return texts
    if shape[1] != 1:
        raise InputError(f"texts must be one column, got {shape[1]}: choose one with a ColumnTransformer")
    return np.asarray(texts)[:, 0]
