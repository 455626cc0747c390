"""Bundles that earlier releases wrote open and prove right, for ever.

Those of tests/data are the format's memory: once 0.1.0 is out none of them is written again, whatever the exporter
becomes. A new kind of bundle is added to them by scripts/make-test-bundles.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monograph import CrossEncoder, Embedder, MultiVectorEncoder, SparseEncoder, load
from monograph.bundle import open_bundle
from monograph.commands.main import main

DATA = Path(__file__).parents[1] / "data"
FIRST_RELEASE = ["embedding", "embedding-int8", "rerank", "sparse", "sparse-routes"]
BUNDLES = sorted(path.name for path in DATA.iterdir())
devices = pytest.mark.parametrize("device", ["cpu", "openvino"])


def test_none_is_lost_and_each_is_small() -> None:
    assert set(FIRST_RELEASE) <= set(BUNDLES)
    for name in BUNDLES:
        assert sum(file.stat().st_size for file in (DATA / name).iterdir()) < 500_000, name


@devices
@pytest.mark.parametrize("name", BUNDLES)
def test_its_probes_give_the_vectors_of_its_export(name: str, device: str) -> None:
    open_bundle(DATA / name, check="full")
    assert main(["verify", str(DATA / name), "--device", device, "--compute-dtype", "float32"]) == 0


@devices
@pytest.mark.parametrize("name", BUNDLES)
def test_the_class_of_its_task_runs_it(name: str, device: str) -> None:
    with load(DATA / name, device, "float32", check="full") as model:
        if isinstance(model, CrossEncoder):
            assert np.isfinite(model.predict([("a boat", "the harbour"), ("", "")])).all()
        elif isinstance(model, Embedder):
            assert np.isfinite(model.encode(["a boat", ""])).all()
        elif isinstance(model, MultiVectorEncoder):
            assert np.isfinite(model.similarity(model.encode_query(["a boat"]), model.encode_document(["", "b"]))).all()
        else:
            assert isinstance(model, SparseEncoder)
            assert model.encode(["a boat", ""]).shape[0] == 2
