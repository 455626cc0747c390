"""Fewer tokens step by step: which are retained, how they are numbered, and that texts are split as before."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM

from monograph import Embedder
from monograph.errors import ExportError, InputError
from monograph_export import export
from monograph_export.probe_texts import probe_sentences
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from monograph_export.text_files import read_texts
from monograph_export.vocabulary.coverage import Vocabularies
from monograph_export.vocabulary.options import NamedTexts, VocabularyOptions
from monograph_export.vocabulary.prune import prune_vocabulary, retain_rows
from monograph_export.vocabulary.reduction import reduce_tokenizer
from monograph_export.vocabulary.scripts import Scripts, check_scripts, scripts_of
from support import checkpoints
from support.command import assert_error, monograph_after_imports

LATIN_AND_CYRILLIC = [text for text in probe_sentences() if Scripts(("Latn", "Cyrl")).has(text.encode())]
OTHERS = [text for text in probe_sentences() if text not in LATIN_AND_CYRILLIC]


def reduced(tokenizer: Tokenizer, options: VocabularyOptions) -> Tokenizer:
    """Return what is left of a tokenizer, by the step of pruning that touches no model."""
    return reduce_tokenizer(tokenizer, options).tokenizer


def corpus(*texts: str) -> VocabularyOptions:
    return VocabularyOptions(corpora=(NamedTexts(texts, "corpus"),))


def wordpiece(*tokens: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(("[UNK]", *tokens))}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def sentencepiece_bpe() -> Tokenizer:
    """BPE as converted from SentencePiece: words begin with its sign for a space, and what is not known is bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(LATIN_AND_CYRILLIC, trainer)
    return tokenizer


def bpe_with_suffix() -> Tokenizer:
    """BPE whose words end with a sign."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(probe_sentences(), trainer)
    return tokenizer


@pytest.mark.parametrize("make", [sentencepiece_bpe, bpe_with_suffix])
def test_other_kinds_of_bpe_split_a_corpus_as_before(make: Callable[[], Tokenizer]) -> None:
    tokenizer, texts = make(), LATIN_AND_CYRILLIC[::2]
    part = reduced(tokenizer, corpus(*texts))
    assert part.get_vocab_size() < 0.9 * tokenizer.get_vocab_size()
    for text in (*texts, "港"):
        assert part.encode(text).tokens == tokenizer.encode(text).tokens


TRAINED = {
    "WordPiece": lambda: checkpoints.wordpiece(1000, lowercase=True),
    "Unigram": lambda: checkpoints.unigram(1000),
    "BPE": lambda: checkpoints.byte_level_bpe(1500),
}


@pytest.fixture(params=list(TRAINED))
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    tokenizer: Tokenizer = TRAINED[request.param]().backend_tokenizer
    assert type(tokenizer.model).__name__ == request.param
    return tokenizer


def test_texts_of_the_corpus_are_split_as_before_and_others_still_are(trained: Tokenizer) -> None:
    texts = LATIN_AND_CYRILLIC[::2]
    part = reduced(trained, corpus(*texts))
    assert part.get_vocab_size() < 0.8 * trained.get_vocab_size()
    for text in texts:
        assert part.encode(text).tokens == trained.encode(text).tokens
    assert sorted(part.get_vocab(with_added_tokens=True).values()) == list(range(part.get_vocab_size()))
    # Others of these scripts come in smaller pieces, and lose nothing.
    for text in LATIN_AND_CYRILLIC[1::2]:
        before, after = trained.encode(text).tokens, part.encode(text).tokens
        assert len(after) >= len(before)
        assert [token for token in after if "unk" in token.lower()] == []
    # What is of another script is unknown, or bytes.
    for text in OTHERS:
        assert part.encode(text).ids


def test_whole_scripts_are_split_as_before(trained: Tokenizer) -> None:
    part = reduced(trained, VocabularyOptions(scripts=("Latn", "Cyrl")))
    assert part.get_vocab_size() < trained.get_vocab_size()
    for text in LATIN_AND_CYRILLIC:
        assert part.encode(text).tokens == trained.encode(text).tokens


def test_added_tokens_keep_their_place_and_what_stands_in_the_template() -> None:
    tokenizer = wordpiece(*"abcdefgh", "[SEP]", *(f"word{i}" for i in range(30)))
    tokenizer.add_special_tokens(["[SEP]", AddedToken("[MORE]", special=True)])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.TemplateProcessing(single="[MORE] $A [SEP]", special_tokens=[("[MORE]", 39), ("[SEP]", 9)]),
        ]
    )
    assert tokenizer.encode("word20").ids == [39, 30, 9]
    part = reduced(tokenizer, corpus("word20 word3 b", "[MORE] a"))
    # Twelve are left: the letters, three words, and two that were added, one of them inside the vocabulary.
    assert part.encode("word20").tokens == ["[MORE]", "word20", "[SEP]"]
    assert part.token_to_id("[SEP]") == 9
    assert part.token_to_id("[MORE]") == part.get_vocab_size() - 1
    assert part.encode("[MORE] a").tokens == tokenizer.encode("[MORE] a").tokens


def test_a_word_that_no_try_could_split_stays_unknown() -> None:
    tokenizer = wordpiece("a", "b", "##b", "abc", "ab", "##cd", "other")
    assert tokenizer.encode("abcd").tokens == ["[UNK]"]
    part = reduced(tokenizer, corpus("abcd", "a b"))
    assert part.encode("abcd").tokens == ["[UNK]"]
    assert part.token_to_id("other") is None
    # Without that word in the corpus nothing asks for the token that stood in the way.
    assert reduced(tokenizer, corpus("ab", "##cd")).token_to_id("abc") is None


def test_an_unknown_character_costs_as_much_as_before() -> None:
    """With its score from another token, "xyz" would be cheaper as "x" and two unknown characters."""
    vocabulary = [("<unk>", 0.0), ("x", -1.0), ("xyz", -40.0), ("rare", -20.0), ("never", -60.0), ("a", -2.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert tokenizer.encode("xyz").tokens == ["xyz"]
    part = reduced(tokenizer, corpus("xyz x a"))
    assert part.encode("xyz").tokens == ["xyz"]
    assert part.token_to_id("never") is not None
    assert part.token_to_id("rare") is None


def test_prompts_are_split_as_before_and_so_are_texts_behind_them() -> None:
    tokenizer = wordpiece("boat", "query", "q", "##uery", "passage", ":", "other")
    part = reduce_tokenizer(tokenizer, corpus("boat"), ["query: ", "passage:"]).tokenizer
    for text in ("boat", "query: boat", "passage:boat"):
        assert part.encode(text).tokens == tokenizer.encode(text).tokens
    assert part.token_to_id("other") is None


def test_a_template_may_name_tokens_that_were_not_added() -> None:
    tokenizer = wordpiece("[CLS]", "a", "ж", "b")
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    part = reduced(tokenizer, VocabularyOptions(scripts=("Cyrl",)))
    assert part.encode("ж").tokens == ["[CLS]", "ж"]


def test_each_corpus_has_its_own_scripts() -> None:
    """A few lines of one language beside very many of another are no quotation."""
    large, small = NamedTexts(tuple(f"boat {n} " * 50 for n in range(100)), "a"), NamedTexts(("палуба",), "b")
    tokenizer = wordpiece("boat", "палуба", *"boatпалубж", *(f"##{letter}" for letter in "boatпалубж"), "other")
    part = reduced(tokenizer, VocabularyOptions(corpora=(large, small)))
    assert part.encode("жаба").tokens == ["ж", "##а", "##б", "##а"]


def test_merges_lead_to_every_token_that_is_left() -> None:
    tokenizer = checkpoints.byte_level_bpe(1500).backend_tokenizer
    part = json.loads(reduced(tokenizer, corpus(*LATIN_AND_CYRILLIC[:3])).to_str())["model"]
    made = {left + right for left, right in part["merges"]}
    assert {token for token in part["vocab"] if len(token) > 1 and not token.startswith("<")} == made
    assert len(part["merges"]) < len(json.loads(tokenizer.to_str())["model"]["merges"])


@pytest.mark.parametrize("spelling", ["pairs", "strings"])
def test_merges_of_old_files_are_strings(spelling: str) -> None:
    merges: list[Any] = [["a", "b"], ["ab", "c"], ["x", "y"]]
    spec = json.loads(Tokenizer(models.BPE({t: i for i, t in enumerate("abcxyz")}, [])).to_str())
    spec["model"]["vocab"] |= {"ab": 6, "abc": 7, "xy": 8, "?": 9}
    spec["model"]["unk_token"] = "?"
    spec["model"]["merges"] = merges if spelling == "pairs" else [" ".join(pair) for pair in merges]
    part = reduced(Tokenizer.from_str(json.dumps(spec)), corpus("abc"))
    assert part.encode("abcab").tokens == ["abc", "ab"]
    assert part.token_to_id("xy") is None


@pytest.mark.parametrize(
    ("piece", "inside"),
    [
        ("Straße 12!", True),
        ("ёжик", True),
        ("a\u0301", True),
        ("αβγ", False),
        ("a港", False),
        (" ёж".encode()[:-1], True),
        ("ёж".encode()[1:], True),
        ("ё".encode()[1:], True),
        ("ա".encode()[:1], False),
        ("港".encode()[:2], False),
        ("👍".encode()[1:3], True),
        (b"\xff", False),
        (b"", True),
    ],
)
def test_a_piece_is_of_some_scripts_even_where_it_is_cut_inside_a_character(piece: str | bytes, inside: bool) -> None:
    assert Scripts(("Latn", "Cyrl")).has(piece if isinstance(piece, bytes) else piece.encode()) is inside


def test_scripts_of_a_corpus_are_not_those_of_a_quotation() -> None:
    texts = ["plain words of one kind, 1,2,3 " * 50, "и другие слова " * 50, "π"]
    assert scripts_of(texts, 1e-3) == {"Latn", "Cyrl"}
    assert scripts_of(["123 !?"], 1e-3) == frozenset()


@pytest.mark.parametrize("code", ["latn", "Latin", "Xyzz", "", "Zzzz", "Hrkt"])
def test_a_script_that_is_not_known_is_refused(code: str) -> None:
    with pytest.raises(ExportError, match="give ISO 15924 codes"):
        check_scripts(["Latn", code])


def test_coverage_counts_what_its_words_say() -> None:
    tokenizer = wordpiece("boat", "ship", "b", "s", "##oa", "##t", "##hip", "##p")
    part = reduced(tokenizer, corpus("boat b s", "b##t"))
    both = Vocabularies(tokenizer, part, "[UNK]")
    coverage = both.coverage(["boat", "ship", "boat boat ship", "?"], "others")
    assert (coverage.texts, coverage.unchanged) == (4, 0.5)
    # ? before; ship, ship and ? after.
    assert (coverage.unknown_before, coverage.unknown) == (1 / 6, 3 / 6)
    assert coverage.growth == 1
    assert both.differing(["boat", "ship", "boat boat ship", "?"]) == [1, 2]


def test_tied_output_layers_keep_the_same_rows() -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = BertForMaskedLM(config).eval()
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_()
    rows = torch.tensor([0, 7, 3, 20, 49])
    small = copy.deepcopy(model)
    retain_rows(small, rows)
    assert small.get_input_embeddings().weight.shape == (5, 16)
    assert small.config.vocab_size == 5
    with torch.inference_mode():
        before = model(rows[None]).logits[..., rows]
        after = small(torch.arange(5)[None]).logits
    assert torch.allclose(before, after, atol=1e-6)


def test_a_tokenizer_without_a_token_for_the_unknown_is_refused() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    with pytest.raises(ExportError, match="no token for what it does not know"):
        reduced(tokenizer, corpus("ab"))
    with pytest.raises(ExportError, match="WordLevel, whose vocabulary cannot be reduced"):
        reduced(Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")), corpus("a"))


def test_nothing_to_leave_out_is_refused() -> None:
    tokenizer = wordpiece("a", "b")
    with pytest.raises(ExportError, match="every token of the vocabulary would be retained"):
        reduced(tokenizer, corpus("a b"))


def test_normalized_texts_are_looked_at_where_a_word_stays_unknown() -> None:
    tokenizer = wordpiece("a", "b", "##b", "abc", "ab", "##cd", "other")
    tokenizer.normalizer = normalizers.Lowercase()
    part = reduced(tokenizer, corpus("ABCD"))
    assert part.encode("abcd").tokens == ["[UNK]"]


def test_lines_end_where_embed_ends_them(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes("one\u2028text\r\n \nother\x0c\none\u2028text\n".encode())
    assert read_texts(file) == ["one\u2028text", "other\x0c"]
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n"two"\n')
    assert read_texts(tmp_path / "texts.jsonl") == ["one", "two"]
    file.write_bytes(b"good\n\xff\n")
    with pytest.raises(ExportError, match="line 2"):
        read_texts(file)


@pytest.mark.slow
def test_added_tokens_without_a_row_have_none_in_a_pruned_table(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    rows = model[0].auto_model.get_input_embeddings().num_embeddings
    tokens = [f"[MORE{number}]" for number in range(1500)]
    model.tokenizer.add_tokens(tokens)
    size = export(model, tmp_path / "bundle", keep_scripts="Latn,Cyrl").manifest.tokenizer.vocabulary_size
    assert size < rows
    text = f"one {tokens[0]} two"
    with Embedder(tmp_path / "bundle", "cpu") as pruned:
        assert np.abs(pruned.encode(text, prompt="") - model.encode(text, prompt="")).max() <= 1e-5
        with pytest.raises(InputError, match=r"text 0 holds the token '\[(?i:more)1499\]'"):
            pruned.encode(tokens[-1])


def test_a_model_embeds_its_corpus_as_before(tiny_checkpoint: Path) -> None:
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    before = model.encode(LATIN_AND_CYRILLIC)
    queries = model.encode(LATIN_AND_CYRILLIC, prompt_name="query")
    pruned = prune_vocabulary(model, EMBEDDING_EXPORT, corpus(*LATIN_AND_CYRILLIC), list(model.prompts.values()))
    assert pruned is not None
    assert (model.encode(LATIN_AND_CYRILLIC, prompt_name="query") == queries).all()
    assert pruned.report.same_tokens == len(LATIN_AND_CYRILLIC)
    assert (model.encode(LATIN_AND_CYRILLIC) == before).all()
    # Also once the model has padded and truncated.
    assert pruned.vocabularies.usable([*LATIN_AND_CYRILLIC, *OTHERS])[: len(LATIN_AND_CYRILLIC)] == LATIN_AND_CYRILLIC
    assert len(pruned.vocabularies.usable(OTHERS)) < len(OTHERS)
    assert prune_vocabulary(model, EMBEDDING_EXPORT, VocabularyOptions()) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep_scripts": "Latn,Foo"}, r"script 'Foo' is not known.*Latn, Cyrl, Arab"),
        ({"keep_scripts": ""}, "script '' is not known"),
        ({"coverage": "texts.txt"}, "--keep-vocab or --keep-scripts retain: neither was given"),
        ({"keep_vocab": "."}, "is a folder.*one text a line"),
        ({"keep_vocab": "nowhere.txt"}, r"cannot read the texts of nowhere\.txt"),
        ({"keep_vocab": ["texts.txt", "empty.txt"]}, r"empty\.txt has no text.*one text a line"),
    ],
    ids=str,
)
def test_what_cannot_be_retained_is_refused_before_anything_is_loaded(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a boat\n")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ExportError, match=words):
        export(tiny_checkpoint, "bundle", **options)
    assert not (tmp_path / "bundle").exists()


def test_options_may_be_repeated_on_the_command_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = monograph_after_imports(
        "export", tiny_checkpoint, tmp_path / "bundle", "--keep-scripts", "Latn", "--keep-scripts", "Cyrl, Foo"
    )
    assert_error(done, 1, "script 'Foo' is not known")
