"""What the modules of all frameworks share: the error if one is missing, models, and checks of texts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, Generic, Self, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from numpy.typing import NDArray

from monograph.cross_encoder import CrossEncoder
from monograph.embedder import Embedder
from monograph.errors import InputError, MonographError
from monograph.inputs import check_named
from monograph.multi_vector_encoder import MultiVectorEncoder
from monograph.sparse_encoder import SparseEncoder

BundlePath: TypeAlias = str | os.PathLike[str]
ModelT = TypeVar("ModelT", bound=Embedder | CrossEncoder | SparseEncoder | MultiVectorEncoder)

# Open models of databases that name a bundle's path and open it whenever a table is opened; by absolute path.
_shared: WeakValueDictionary[tuple[str, str | None], Embedder] = WeakValueDictionary()
_opening = threading.Lock()


class MissingFrameworkError(MonographError, ImportError):
    """The framework of an integration is not installed, or is too old."""


def missing(package: str, error: ImportError) -> MissingFrameworkError:
    """Return the error for a framework that cannot be imported, to be raised from ``error``."""
    return MissingFrameworkError(f"this integration needs {package}: pip install --upgrade {package} ({error})")


def open_embedder(model: Embedder | BundlePath, device: str | None = None) -> Embedder:
    """Return an embedder as it is, or open a bundle's folder or name on a device.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: it is something else, or an open model and a device.

    """
    return _open(Embedder, model, device)


def open_cross_encoder(model: CrossEncoder | BundlePath, device: str | None = None) -> CrossEncoder:
    """``open_embedder`` for a reranker; raise ``InputError`` if it has more than one label."""
    opened = _open(CrossEncoder, model, device)
    if opened.num_labels != 1:
        raise InputError(f"reranking needs a model with one label, and this one has {opened.num_labels}")
    return opened


def open_sparse_encoder(model: SparseEncoder | BundlePath, device: str | None = None) -> SparseEncoder:
    """``open_embedder`` for a sparse encoder."""
    return _open(SparseEncoder, model, device)


def open_multi_vector_encoder(model: MultiVectorEncoder | BundlePath, device: str | None = None) -> MultiVectorEncoder:
    """``open_embedder`` for a multi-vector encoder."""
    return _open(MultiVectorEncoder, model, device)


def open_shared(path: BundlePath, device: str | None, identity: str | None) -> Embedder:
    """Return the embedder of a path and device, open once while it is in use, for vectors that a database stores.

    Args:
        path: The bundle's path.
        device: Where the bundle is opened; None for the best device.
        identity: What ``identity_of`` returned for the embedder of the stored vectors; None if there are none.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: it is no path, or another bundle than that of the stored vectors.

    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"the database stores a bundle's path: give it instead of {type(path).__name__}")
    name = absolute(path)
    with _opening:
        model = _shared.get((name, device))
        if model is None or model.closed:
            model = _shared[name, device] = Embedder(name, device=device)
    if identity is not None and identity_of(model) != identity:
        raise InputError(
            f"{os.fspath(path)} is not the bundle that embedded what is stored: put that one there, or embed again"
        )
    return model


def identity_of(model: Embedder) -> str:
    """Return a string that differs for bundles, and precisions of a bundle, with other vectors."""
    return model.bundle.identity


def absolute(path: Any) -> Any:
    """Return the absolute path of a bundle's folder; a name on the Hub as a str, and an open model as it is."""
    if not isinstance(path, str | os.PathLike):
        return path
    return os.path.abspath(path) if os.path.exists(path) else os.fspath(path)  # noqa: PTH100, PTH110  # a str as given


class LazyModel(Generic[ModelT]):
    """The model that an adapter's arguments name: opened when it is first needed, once for all threads.

    ``open_model`` is ``open_embedder`` or ``open_cross_encoder``.
    """

    def __init__(self, open_model: Callable[[Any, str | None], ModelT]) -> None:
        self._open_model = open_model
        self._lock = threading.Lock()
        self._opened: tuple[Any, str | None, ModelT] | None = None

    def get(self, model: ModelT | BundlePath, device: str | None) -> ModelT:
        """Return the model of these arguments; that of former ones is not used any more.

        Raises:
            BundleError: the bundle is missing, damaged or of another task.
            DeviceError: the device cannot run the bundle.
            InputError: an argument is not valid.

        """
        with self._lock:
            if self._opened is None or self._opened[:2] != (model, device):
                self._opened = (model, device, self._open_model(model, device))
            return self._opened[2]

    def describe(self, model: ModelT | BundlePath, device: str | None) -> str:
        """Return the representation of the model of these arguments, which is not opened for it."""
        opened = self._opened
        if opened is not None and opened[:2] == (model, device):
            return repr(opened[2])
        return f"{model!r}, device={device!r}, not opened yet" if isinstance(model, str | os.PathLike) else repr(model)

    def __copy__(self) -> Self:
        """Return another of these that shares the open model until another is requested."""
        copied = type(self)(self._open_model)
        copied._opened = self._opened
        return copied

    def __getstate__(self) -> Callable[[Any, str | None], ModelT]:
        # A bundle is opened again where it is needed.
        return self._open_model

    def __setstate__(self, open_model: Callable[[Any, str | None], ModelT]) -> None:
        LazyModel.__init__(self, open_model)


class KeywordBackend:
    """What the backends of KeyBERT and BERTopic share; each is also its framework's ``BaseEmbedder``."""

    embedding_model: Embedder

    def __init__(
        self, embedding_model: Embedder | BundlePath, *, device: str | None = None, prompt_name: str | None = None
    ) -> None:
        super().__init__(embedding_model=open_embedder(embedding_model, device))  # type: ignore[call-arg]  # theirs
        self.prompt_name = prompt_name

    def __repr__(self) -> str:
        return describe(self, self.embedding_model)

    def embed(self, documents: Iterable[str], verbose: bool = False) -> NDArray[Any]:
        """Return the vectors of documents or words, float32 [n, d].

        Raises:
            InputError: a text is not valid.

        """
        texts = list(check_texts_of(documents))
        vectors: NDArray[Any] = self.embedding_model.encode(
            texts, prompt_name=self.prompt_name, show_progress_bar=verbose
        )
        return vectors


def describe(adapter: object, model: object) -> str:
    """Return the representation of an adapter: the class, and the model that it uses."""
    return f"{type(adapter).__name__}({model!r})"


def check_texts_of(texts: Any) -> Any:
    """Return texts as they are, but refuse a single one, whose characters would be taken for texts.

    Raises:
        InputError: it is one text.

    """
    if isinstance(texts, str | bytes):
        raise InputError("texts must be a list of str, got one text: put it in a list, [text]")
    return texts


def check_query(query: Any) -> str:
    """Return one query.

    Raises:
        InputError: it is no str, such as a list of queries.

    """
    if isinstance(query, list | tuple):
        raise InputError("a query must be one str, got several: give one at a time")
    return check_named(query, "a query")


def _open(kind: type[ModelT], model: Any, device: str | None) -> ModelT:
    if isinstance(model, kind):
        if device is not None:
            raise InputError(f"device={device!r} is for a bundle's path: this model is open on {model.device}")
        return model
    if isinstance(model, str | os.PathLike):
        return kind(model, device=device)
    raise InputError(f"model must be a bundle's path or an open {kind.__name__}, got {type(model).__name__}")
