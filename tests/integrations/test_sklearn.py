"""scikit-learn: a step of pipelines and grid searches, equal to a step that calls sentence-transformers."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from monograph import Embedder, InputError
from monograph.integrations import sklearn as integration
from monograph.integrations.sklearn import MonographTransformer
from support.frameworks import DOCUMENT_PROMPT, DOCUMENTS, QUERIES

# Travel, money, technology, mountains: the subjects of the texts.
LABELS = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


class Weighted(MonographTransformer):
    """One that takes metadata."""

    def transform(self, X: Any, weights: Any = None) -> Any:  # noqa: ARG002, N803  # scikit-learn's name
        return super().transform(X)


def test_a_pipeline_predicts_as_with_sentence_transformers(minilm_embedder: Embedder, minilm_torch: Any) -> None:
    ours = make_pipeline(MonographTransformer(minilm_embedder), LogisticRegression()).fit(DOCUMENTS, LABELS)
    theirs = make_pipeline(FunctionTransformer(minilm_torch.encode), LogisticRegression()).fit(DOCUMENTS, LABELS)
    np.testing.assert_allclose(ours[:-1].transform(QUERIES), theirs[:-1].transform(QUERIES), atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(QUERIES), theirs.predict_proba(QUERIES), atol=1e-4)
    assert ours.predict(QUERIES).tolist() == theirs.predict(QUERIES).tolist() == [1, 3, 0, 2]


def test_a_grid_search_shares_the_open_model(tiny_embedder: Embedder) -> None:
    pipeline = make_pipeline(MonographTransformer(tiny_embedder), LogisticRegression())
    search = GridSearchCV(pipeline, {"monographtransformer__truncate_dim": [2, None]}, cv=2)
    search.fit(DOCUMENTS * 2, LABELS * 2)
    assert search.best_estimator_[0].model is tiny_embedder


def test_a_clone_shares_the_bundle_that_is_open(tiny_bundle: Path) -> None:
    transformer = MonographTransformer(tiny_bundle, device="cpu").fit(DOCUMENTS)
    copied = clone(transformer)
    assert copied.get_params() == transformer.get_params()
    assert copied._embedder() is transformer._embedder()
    other = clone(transformer).set_params(model=Path(tiny_bundle), device=None)
    assert other._embedder() is not transformer._embedder()


def test_a_clone_gives_the_same_container_and_routes_the_same(tiny_bundle: Path) -> None:
    """Those that set_output and metadata requests chose: a pipeline of clones would give arrays in place of tables."""
    transformer = MonographTransformer(tiny_bundle, device="cpu").set_output(transform="pandas")
    copied = clone(transformer)
    assert isinstance(copied.transform(DOCUMENTS), pd.DataFrame)
    pipeline = make_pipeline(MonographTransformer(tiny_bundle, device="cpu"), StandardScaler())
    assert isinstance(clone(pipeline.set_output(transform="pandas"))[0].transform(DOCUMENTS), pd.DataFrame)
    # What is set on a clone is its own.
    copied.set_output(transform="default")
    assert isinstance(transformer.transform(DOCUMENTS), pd.DataFrame)
    with config_context(enable_metadata_routing=True):
        weighted: Any = Weighted(tiny_bundle, device="cpu")
        weighted.set_transform_request(weights=True)
        assert clone(weighted).get_metadata_routing().transform.requests == {"weights": True}


def test_the_bundle_is_opened_once_by_several_threads(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Embedder] = []

    def slowly(model: Any, device: str | None) -> Embedder:
        time.sleep(0.1)
        opened.append(Embedder(model, device=device))
        return opened[-1]

    monkeypatch.setattr(integration, "open_embedder", slowly)
    transformer = MonographTransformer(tiny_bundle, device="cpu")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(transformer.transform, [DOCUMENTS] * 4))
    assert len(opened) == 1


def test_a_pickled_transformer_finds_its_bundle_from_another_folder(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    transformer = MonographTransformer(tiny_bundle.name, device="cpu")
    stored = pickle.dumps(transformer)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(stored).transform(DOCUMENTS).shape == (len(DOCUMENTS), 24)
    assert transformer.get_params()["model"] == tiny_bundle.name


def test_a_prompt_by_its_name(tiny_embedder: Embedder) -> None:
    vectors = MonographTransformer(tiny_embedder, prompt_name="document").transform(DOCUMENTS)
    np.testing.assert_allclose(vectors, tiny_embedder.encode(DOCUMENTS, prompt=DOCUMENT_PROMPT), atol=1e-6)
    assert np.abs(vectors - tiny_embedder.encode(DOCUMENTS)).max() > 1e-3


def test_a_pickled_transformer_gives_the_same(tiny_bundle: Path) -> None:
    transformer = MonographTransformer(tiny_bundle, device="cpu").fit(DOCUMENTS)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(transformer)).transform(DOCUMENTS), transformer.transform(DOCUMENTS)
    )


def test_a_column_of_a_table(tiny_embedder: Embedder) -> None:
    table = pd.DataFrame({"text": DOCUMENTS, "length": [len(text) for text in DOCUMENTS]})
    transformer = MonographTransformer(tiny_embedder, truncate_dim=4).set_output(transform="pandas")
    expected = tiny_embedder.encode(DOCUMENTS, truncate_dim=4)
    for columns in ("text", ["text"]):
        steps = make_column_transformer(
            (transformer, columns), remainder="passthrough", verbose_feature_names_out=False
        )
        made = steps.set_output(transform="pandas").fit_transform(table)
        assert list(made) == [*(f"monographtransformer{place}" for place in range(4)), "length"]
        np.testing.assert_allclose(made.to_numpy()[:, :4], expected, atol=1e-6)


def test_a_list_of_rows_is_a_column(tiny_embedder: Embedder) -> None:
    transformer = MonographTransformer(tiny_embedder)
    expected = transformer.transform(DOCUMENTS)
    for rows in ([[text] for text in DOCUMENTS], tuple((text,) for text in DOCUMENTS)):
        np.testing.assert_array_equal(transformer.transform(rows), expected)


def test_what_is_no_column_of_texts_is_refused(tiny_embedder: Embedder) -> None:
    transformer = MonographTransformer(tiny_embedder)
    with pytest.raises(InputError, match="one column, got 2"):
        transformer.transform(np.array([["a", "b"]]))
    for rows in ([["a", "b"]], [["a"], ["b", "c"]]):
        with pytest.raises(InputError, match="one column, got 2"):
            transformer.transform(rows)
    with pytest.raises(InputError, match="put it in a list"):
        transformer.transform("abc")
    with pytest.raises(InputError, match="text 1"):
        transformer.transform(["a", None])
    with pytest.raises(InputError, match="open Embedder, got int"):
        MonographTransformer(3).fit(DOCUMENTS)  # type: ignore[arg-type]


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert run_snippet("sklearn") == "['money']\n"
