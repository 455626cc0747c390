"""The kinds of cases by their names."""

from __future__ import annotations

from collections.abc import Mapping

from fuzzing.archives import Archives
from fuzzing.bundles import Manifests, Measurements, Probes, Tokenizers
from fuzzing.case import Kind
from fuzzing.graphs import Graphs
from fuzzing.lines import TextLines

KINDS: Mapping[str, type[Kind]] = {
    kind.name: kind for kind in (Manifests, Measurements, Probes, Tokenizers, Graphs, Archives, TextLines)
}


def kind_named(name: str) -> type[Kind]:
    """Return the kind of a name."""
    return KINDS[name]
