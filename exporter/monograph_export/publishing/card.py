"""The model card of a published repository: README.md with its metadata, and an example for each loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from monograph.bundle import Bundle
from monograph.errors import printable
from monograph.hub import parse_hub_name
from monograph_export.checkpoint.checkpoint import Checkpoint
from monograph_export.publishing.graphs import PublishedGraph
from monograph_export.publishing.layout import FOLDER
from monograph_export.publishing.modules import Modules

_FILE = "README.md"
_MAX_TITLE = 100
# Not of sentence-transformers: the Hub would show its default call, which looks for torch's weights.
_LIBRARY = "transformers.js"
_TAGS = ("feature-extraction", "sentence-similarity", "onnx", "transformers.js", "fastembed", "monograph")
# What cards say of this project, which has neither a package in an index nor a site yet: a release links both here.
_PROJECT = "monograph"
_INSTALL = "install it as its documentation says"
# What a card says of the model itself, and not of its format.
_INHERITED = ("license", "license_name", "license_link", "language", "base_model", "datasets")
# The poolings that transformers.js has, by its names.
_POOLINGS_OF_PIPELINE = {"mean": "mean", "cls": "cls"}
_DTYPES_OF_PIPELINE = {"fp32": "fp32", "fp16": "fp16", "int8": "q8", "int8-weights": "int8"}


@dataclass(frozen=True)
class Contents:
    """What a repository was made of."""

    bundles: tuple[Bundle, ...]
    checkpoint: Checkpoint
    modules: Modules
    graphs: tuple[PublishedGraph, ...]


def write_card(contents: Contents, name: str, folder: Path) -> None:
    """Write the model card of a folder that is otherwise complete; ``name`` is what its examples load."""
    from huggingface_hub import ModelCard, ModelCardData

    first = contents.bundles[0]
    data = ModelCardData(**_metadata(first, contents.checkpoint))
    parts = [
        *_introduction(first, contents.checkpoint, name),
        *_files(folder),
        *_verification(contents.bundles, contents.graphs),
        *_usage(first, contents.modules, contents.graphs, name),
    ]
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")
    (folder / _FILE).write_text(str(card), encoding="utf-8")


def _metadata(bundle: Bundle, checkpoint: Checkpoint) -> dict[str, Any]:
    inherited = _inherited(checkpoint.folder / _FILE)
    if "license" not in inherited and bundle.manifest.source.license is not None:
        # The Hub has identifiers of SPDX in lower case.
        inherited["license"] = bundle.manifest.source.license.lower()
    source = bundle.manifest.source.name
    # Of a checkpoint with a name on the Hub, and not of what that was made from.
    base = {} if parse_hub_name(source) is None else {"base_model": source}
    return {
        "library_name": _LIBRARY,
        "pipeline_tag": "sentence-similarity",
        "tags": list(_TAGS),
        **inherited,
        **base,
    }


def _inherited(card: Path) -> dict[str, Any]:
    if not card.exists():
        return {}
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    try:
        data = ModelCard.load(card).data.to_dict()
    except (ValueError, YAMLError):
        # A card whose YAML head is malformed states nothing.
        return {}
    return {key: data[key] for key in _INHERITED if data.get(key)}


def _title(card: Path) -> str:
    """Return the first heading of a card, which is the name of the model; "" for none."""
    lines = card.read_text("utf-8", errors="replace").splitlines() if card.exists() else []
    return printable(next((line[2:].strip() for line in lines if line.startswith("# ")), ""), _MAX_TITLE)


def _introduction(bundle: Bundle, checkpoint: Checkpoint, name: str) -> Iterator[str]:
    manifest = bundle.manifest
    source = manifest.source
    revision = f" at `{source.revision}`" if source.revision else ""
    limit = manifest.tokenizer.max_length
    # What a folder is called may be by chance, of the checkpoint as well as of the repository on its way to the Hub.
    known = source.name if parse_hub_name(source.name) else _title(checkpoint.folder / _FILE)
    yield f"# {PurePosixPath(name if parse_hub_name(name) or not known else known).name}"
    yield (
        f"[{source.name}](https://huggingface.co/{source.name}){revision}"
        if parse_hub_name(source.name)
        else f"{known or source.name}{revision}"
    ) + (
        f" in ONNX, exported by {_PROJECT} {manifest.producer['monograph']}: "
        f"{manifest.section.dimension} dimensions, {'' if manifest.section.normalized else 'not '}normalized, "
        f"similarity {manifest.section.similarity}, "
        f"{'texts of any length' if limit is None else f'at most {limit} tokens'}."
    )
    yield (
        f"The graphs in `{FOLDER}/` have two outputs: `last_hidden_state`, the vectors of the tokens, and "
        "`sentence_embedding`, which includes pooling and everything after it. The other files at the top are the "
        "settings that sentence-transformers, transformers.js and fastembed read, and a monograph bundle "
        "(`manifest.json` and the files that it lists)."
    )


def _files(folder: Path) -> Iterator[str]:
    yield "## Files"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size >= 1_000_000]
    graphs = [path for path in sorted(folder.glob(f"{FOLDER}/*.onnx")) if path not in files]
    rows = [f"| `{path.relative_to(folder).as_posix()}` | {path.stat().st_size / 1e6:,.1f} MB |"
            for path in sorted([*files, *graphs])]  # fmt: skip
    yield "\n".join(["| file | size |", "|---|---|", *rows])


def _verification(bundles: Sequence[Bundle], graphs: Sequence[PublishedGraph]) -> Iterator[str]:
    yield "## Verification"
    yield (
        "Against sentence-transformers in torch at float32, each text alone; for compressed precisions, torch with the "
        "same rounding. First monograph on each device, then the files as any software runs them, in a session of ONNX "
        "Runtime with the default settings:"
    )
    head = ["| what | precision | computes in | max abs difference | worst cosine | texts | |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    yield "\n".join([*head, *_rows_of_bundles(bundles), *map(_row_of_graph, graphs)])
    if losses := list(_losses(bundles)):
        yield "The loss of the compressed precisions, compared with the original model on held-out texts:"
        yield "\n".join(losses)
    worst = max(graph.pooling_difference for graph in graphs)
    yield (
        "`last_hidden_state`, pooled by the modules of sentence-transformers, gives `sentence_embedding` to "
        f"{worst:.1e} in every file."
    )


def _rows_of_bundles(bundles: Sequence[Bundle]) -> Iterator[str]:
    for bundle in (one for several in bundles for one in several.by_precision):
        [precision] = bundle.manifest.precisions
        for result in bundle.manifest.quality.verifications:
            cosine = "" if result.worst_cosine is None else f"{result.worst_cosine:.6f}"
            yield (
                f"| {result.device} ({result.engine} {result.version}) | {precision} | {result.compute_dtype} | "
                f"{result.max_abs_difference:.1e} | {cosine} | {result.probes} | "
                f"{'passed' if result.passed else 'FAILED'} |"
            )


def _row_of_graph(graph: PublishedGraph) -> str:
    return (
        f"| `{FOLDER}/{graph.file}` | {graph.precision} | float32 | {graph.max_abs_difference:.1e} | "
        f"{graph.worst_cosine:.6f} | {graph.probes} | passed |"
    )


def _losses(bundles: Sequence[Bundle]) -> Iterator[str]:
    for bundle in (one for several in bundles for one in several.by_precision):
        compression = bundle.manifest.quality.compression
        if compression is not None:
            yield f"- {bundle.manifest.precisions[0]}: {compression.describe()}"


def _usage(bundle: Bundle, modules: Modules, graphs: Sequence[PublishedGraph], name: str) -> Iterator[str]:
    yield "## Use"
    prompts = {key: prompt for key, prompt in bundle.manifest.prompts.items() if prompt}
    if prompts:
        listed = ", ".join(f"`{key}`: {prompt!r}" for key, prompt in prompts.items())
        yield f"The model has prompts, which fastembed and transformers.js do not prepend by themselves: {listed}."
    yield f"""### monograph

```python
from monograph import Embedder  # {_INSTALL}

model = Embedder("{name}")
vectors = model.encode(["one text", "another text"])
```"""
    yield f"""### sentence-transformers 5

```python
from sentence_transformers import SentenceTransformer  # pip install "sentence-transformers[onnx]<6"

model = SentenceTransformer("{name}", backend="onnx")
vectors = model.encode(["one text", "another text"])
```

The extra `onnx` of sentence-transformers 6 cannot be installed: its optimum-onnx needs an older transformers. Without
`backend="onnx"`, any version needs the checkpoint's `model.safetensors`, which is not in this repository."""
    if len(graphs) > 1:
        others = " or ".join(f'`"{FOLDER}/{graph.file}"`' for graph in graphs if graph.precision != "fp32")
        yield f'Smaller files: `model_kwargs={{"file_name": ...}}` with {others}.'
    yield _fastembed(bundle, name)
    yield from _javascript(modules, graphs, name)


def _fastembed(bundle: Bundle, name: str) -> str:
    return f"""### fastembed (0.9 or later)

```python
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

TextEmbedding.add_custom_model(
    model="{name}",
    pooling=PoolingType.DISABLED,
    normalization=False,
    output_name="sentence_embedding",
    sources=ModelSource(hf="{name}"),
    dim={bundle.manifest.section.dimension},
    model_file="{FOLDER}/model.onnx",
    additional_files=["{FOLDER}/model.onnx_data"],
)
vectors = list(TextEmbedding("{name}").embed(["one text", "another text"]))
```

For a folder on disk, add `specific_model_path="path/to/folder"` to `TextEmbedding(...)`."""


def _javascript(modules: Modules, graphs: Sequence[PublishedGraph], name: str) -> Iterator[str]:
    dtypes = ", ".join(f'"{_DTYPES_OF_PIPELINE[graph.precision]}"' for graph in graphs)
    yield "### transformers.js (4 or later)"
    [pooling, *others] = modules.poolings
    if pooling in _POOLINGS_OF_PIPELINE and not others and not modules.beyond_pooling():
        normalize = "true" if modules.normalized else "false"
        yield f"""```js
import {{ pipeline }} from "@huggingface/transformers";

const extractor = await pipeline("feature-extraction", "{name}", {{ dtype: "fp32" }});
const vectors = await extractor(["one text", "another text"], {{ pooling: "{pooling}", normalize: {normalize} }});
```"""
    yield f"""```js
import {{ AutoModel, AutoTokenizer }} from "@huggingface/transformers";

const tokenizer = await AutoTokenizer.from_pretrained("{name}");
const model = await AutoModel.from_pretrained("{name}", {{ dtype: "fp32" }});
const inputs = await tokenizer(["one text", "another text"], {{ padding: true, truncation: true }});
const {{ sentence_embedding }} = await model(inputs);
```"""
    yield f"`dtype` is one of {dtypes}."
