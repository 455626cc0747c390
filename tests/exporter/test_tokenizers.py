"""Tokenizers as checkpoints have them: every text has the model's vector or one error, and what is missing is named."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Tokenizer, models, processors

from monograph import Embedder, ExportError, InputError
from monograph_export import export
from monograph_export.checkpoint.rust_tokenizer import copied
from monograph_export.checkpoint.token_rows import check_vocabulary
from support import checkpoints

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
TEXTS = ["A quiet evening", "  the harbour ", "[SEP] lights [MASK] and <extra>", "ΟΔΥΣΣΕΥΣ", "word " * 200]


def saved(tokenizer: Any, folder: Path, *, rows: int, **options: Any) -> Path:
    """Save a tiny BERT with another tokenizer and a table of so many rows."""
    config = {**checkpoints.TINY_BERT, "vocab_size": rows}
    body = checkpoints.save_transformer(config, tokenizer, folder / "transformer")
    checkpoints.build_model(body, max_length=32, **options).save(str(folder / "checkpoint"), create_model_card=False)
    return folder / "checkpoint"


def assert_equal_vectors(checkpoint: Path, bundle: Path, texts: list[str]) -> None:
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    expected = np.stack([reference.encode(text, show_progress_bar=False) for text in texts])
    with Embedder(bundle, "cpu") as model:
        assert np.abs(model.encode(texts) - expected).max() <= 1e-5


def edit(file: Path, **settings: Any) -> None:
    """Change settings of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def test_a_token_past_the_table_is_an_input_error_that_names_it_and_the_text(tmp_path: Path) -> None:
    tokenizer = checkpoints.wordpiece(1000, lowercase=True)
    rows = len(tokenizer)
    tokenizer.add_tokens([AddedToken("<inside>", special=True)])
    tokenizer.add_special_tokens({"pad_token": "<image>"})
    checkpoint = saved(tokenizer, tmp_path, rows=rows + 1)
    manifest = export(checkpoint, tmp_path / "bundle").manifest
    assert (manifest.tokenizer.vocabulary_size, manifest.tokenizer.pad_id) == (rows + 1, 0)
    assert_equal_vectors(checkpoint, tmp_path / "bundle", [*TEXTS, "one <inside> two", "word " * 40 + "<image>"])
    with Embedder(tmp_path / "bundle", "cpu") as model:
        expected = r"holds the token '<image>' \(id \d+\), for which this model has no embedding"
        for texts, position in (("<image>", 0), (["a", "a", "b", "c <image>", "c <image>"], 3)):
            with pytest.raises(InputError, match=f"^text {position} {expected}"):
                model.encode(texts)
        stream = model.encode_iter("a" if number != 5000 else "<image>" for number in range(6000))
        with pytest.raises(InputError, match=f"^text 5000 {expected}"):
            list(stream)
        with pytest.raises(InputError, match=f"^text 0 {expected}"):
            model.encode(["a", "b"], prompt="<image>: ")
        assert model.encode("still open").shape == (model.dimension,)


def test_tokens_past_the_table_are_refused_where_texts_have_them_anyway() -> None:
    tokenizer = checkpoints.wordpiece(1000, lowercase=True)
    rows = len(tokenizer)
    tokenizer.add_tokens(["<begin>"])
    rust = tokenizer.backend_tokenizer
    check_vocabulary(rust, rows)
    with pytest.raises(ExportError, match=f"gives ids up to {rows - 1}, and the embedding table has {rows - 1} rows"):
        check_vocabulary(rust, rows - 1)
    rust.post_processor = processors.TemplateProcessing(single="<begin> $A", special_tokens=[("<begin>", rows)])
    with pytest.raises(ExportError, match="adds to every text the token '<begin>'"):
        check_vocabulary(rust, rows)


def test_special_tokens_are_split_as_text_where_the_tokenizer_does_so(tmp_path: Path) -> None:
    tokenizer = checkpoints.wordpiece(1000, lowercase=True)
    tokenizer.add_tokens([AddedToken("<extra>", special=False)])
    checkpoint = saved(tokenizer, tmp_path, rows=len(tokenizer))
    edit(checkpoint / "tokenizer_config.json", split_special_tokens=True)
    export(checkpoint, tmp_path / "bundle")
    assert_equal_vectors(checkpoint, tmp_path / "bundle", TEXTS)


def test_special_tokens_that_overlap_with_others_cannot_be_split_by_a_file() -> None:
    tokenizer = checkpoints.wordpiece(1000, lowercase=True).backend_tokenizer
    tokenizer.add_tokens(["SEP]x"])
    tokenizer.encode_special_tokens = True
    with pytest.raises(ExportError, match=r"'\[SEP\]' overlaps with the token 'SEP\]x'"):
        copied(tokenizer)


def test_a_text_without_tokens_is_an_input_error_where_torch_has_no_vector_for_it(tmp_path: Path) -> None:
    tokenizer = checkpoints.byte_level_bpe(1000)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    checkpoint = saved(tokenizer, tmp_path, rows=len(tokenizer))
    with pytest.raises(RuntimeError):
        SentenceTransformer(str(checkpoint), device="cpu").encode("")
    manifest = export(checkpoint, tmp_path / "bundle").manifest
    assert manifest.tokenizer.min_length == 1
    probes = json.loads((tmp_path / "bundle" / "probes.json").read_text())
    assert min(probes["token_counts"]) == 1
    assert_equal_vectors(checkpoint, tmp_path / "bundle", [" ", *TEXTS])
    with Embedder(tmp_path / "bundle", "cpu") as model:
        for texts, position in (("", 0), (["a", "a", "", "b", ""], 2)):
            with pytest.raises(InputError, match=f"^text {position} has no tokens"):
                model.encode(texts)
        with pytest.raises(InputError, match=r"^text 3000 has no tokens"):
            list(model.encode_iter("a" * (number != 3000) for number in range(4000)))
        model.warmup()
        assert (model.encode("", prompt="find: ") == model.encode("find: ")).all()


def test_probes_spell_the_tokens_of_the_tokenizer(tiny_bundle: Path) -> None:
    texts = " ".join(json.loads((tiny_bundle / "probes.json").read_text())["texts"])
    assert all(f"boat{token}harbour  {token}  {token.swapcase()}." in texts for token in checkpoints.SPECIAL_TOKENS)
    assert "ΟΔΥΣΣΕΥΣ" in texts


@pytest.mark.parametrize("words", [[], [f"w{number}" for number in range(10)]], ids=["empty", "tiny"])
def test_a_checkpoint_without_a_vocabulary_is_refused(words: list[str], tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    (folder / "tokenizer.json").unlink()
    if words:
        (folder / "vocab.txt").write_text("\n".join([*checkpoints.SPECIAL_TOKENS, *words]))
    with pytest.raises(ExportError, match="the checkpoint is incomplete, its vocabulary is missing"):
        export(folder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("tokens", "rows"), [(1000, 250_002), (30_522, 30_528), (256, 384), (20, 33), (12, 128)])
def test_a_small_vocabulary_is_no_missing_one(tokens: int, rows: int) -> None:
    vocabulary = {"[UNK]": 0, **{f"w{number}": number for number in range(1, tokens)}}
    check_vocabulary(Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")), rows)


@pytest.mark.parametrize(
    "file", ["tokenizer.json", "model.safetensors", "2_Dense/model.safetensors", "config.json", "modules.json"]
)
def test_a_git_lfs_pointer_is_named(file: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    (folder / file).write_bytes(POINTER)
    with pytest.raises(ExportError, match=rf"{file} is a Git LFS pointer .*: run `git lfs pull`"):
        export(folder, tmp_path / "bundle")


def test_a_pointer_that_nothing_reads_is_no_obstacle(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from monograph_export.checkpoint.checkpoint import read_checkpoint
    from monograph_export.checkpoint.source import check_files

    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    for file in ("pytorch_model.bin", "tf_model.h5", "results.json", "onnx/model.onnx"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(POINTER)
    check_files(read_checkpoint(folder))
    with pytest.raises(ExportError, match=r"model.onnx is a Git LFS pointer"):
        check_files(read_checkpoint(folder), folder / "onnx" / "model.onnx")


def test_a_mask_that_the_tokenizer_leaves_out_is_computed_with(tmp_path: Path) -> None:
    checkpoint = saved(checkpoints.wordpiece(1000, lowercase=True), tmp_path, rows=1000)
    edit(checkpoint / "tokenizer_config.json", model_input_names=["input_ids"])
    assert "attention_mask" not in SentenceTransformer(str(checkpoint), device="cpu").preprocess(["a"])
    export(checkpoint, tmp_path / "bundle")
    assert_equal_vectors(checkpoint, tmp_path / "bundle", TEXTS)


@pytest.mark.parametrize(
    ("settings", "model", "message"),
    [
        ({"pad_token": None}, {}, "its tokenizer has no padding token, .*: set pad_token in tokenizer_config.json"),
        ({}, {"unk_token": "[GONE]", "type": "WordLevel"}, "its tokenizer cannot run .*[GONE]|UNK.*: it is incomplete"),
    ],
)
def test_a_tokenizer_that_cannot_run_is_no_matter_of_length(
    settings: dict[str, Any], model: dict[str, Any], message: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", **settings)
    file = json.loads((folder / "tokenizer.json").read_text())
    if model:
        words = {word: id_ for word, id_ in file["model"]["vocab"].items() if word.startswith("[")}
        file["model"] = {"vocab": words | {f"w{number}": len(words) + number for number in range(90)}, **model}
    (folder / "tokenizer.json").write_text(json.dumps(file))
    with pytest.raises(ExportError, match=message):
        export(folder, tmp_path / "bundle")


def test_a_tokenizer_that_splits_by_chance_is_refused_as_one_of_the_checkpoint(tmp_path: Path) -> None:
    tokenizer = checkpoints.byte_level_bpe(1000)
    checkpoint = saved(tokenizer, tmp_path, rows=len(tokenizer))
    file = json.loads((checkpoint / "tokenizer.json").read_text())
    file["model"]["dropout"] = 0.5
    (checkpoint / "tokenizer.json").write_text(json.dumps(file))
    with pytest.raises(ExportError, match=r"dropout splits texts by chance.*: change that in the checkpoint's"):
        export(checkpoint, tmp_path / "bundle")


SPIECE = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"
JAPANESE = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}
TOKENIZERS: list[tuple[str, dict[str, Any], str, bytes, str]] = [
    ("fugashi", JAPANESE, "vocab.txt", b"[UNK]\n", "pip install fugashi"),
    ("sentencepiece", {"tokenizer_class": "T5Tokenizer"}, "spiece.model", SPIECE, "pip install sentencepiece"),
    ("tiktoken", {"tokenizer_class": "PreTrainedTokenizerFast"}, "tiktoken.model", b"YQ== 0\n", "pip install tiktoken"),
    ("", {"tokenizer_class": "CanineTokenizer"}, "vocab.txt", b"", "CanineTokenizer is Python code"),
    ("", {"auto_map": {"AutoTokenizer": ["a.B", None]}, "tokenizer_class": "B"}, "vocab.txt", b"", "code of its own"),
    ("", {"tokenizer_class": "PreTrainedTokenizerFast"}, "added_tokens.json", b"{}", "its vocabulary is missing"),
    ("", {"tokenizer_class": "NoSuchTokenizer"}, "vocab.txt", b"[UNK]\n", "cannot make its tokenizer NoSuchTokenizer"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("package", "config", "file", "content", "message"), TOKENIZERS, ids=lambda value: str(value)[:40]
)
def test_why_a_tokenizer_cannot_be_loaded_is_one_line(
    package: str, config: dict[str, Any], file: str, content: bytes, message: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    if package and importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / file).write_bytes(content)
    with pytest.raises(ExportError) as caught:
        export(folder, tmp_path / "bundle")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
