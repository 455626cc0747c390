"""Kinds of cases that are a bundle with other files: manifests, probes, tokenizers."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from fuzzing import use
from fuzzing.byte_mutations import mutate_bytes
from fuzzing.case import Case, Kind
from fuzzing.json_mutations import hostile_value, mutate_json, to_bytes
from fuzzing.outcomes import RESULT
from fuzzing.workplace import BUNDLES, MANIFEST, MEASUREMENTS, Content, Special, Workplace, manifest_of, state_files

# Most of the bundles' code is that of all; these open fastest.
_WEIGHTS = (5, 1, 2, 1, 2)
# What the outputs for a text without a prompt depend on.
_MEANING = ("task", "embedding", "rerank", "sparse", "graphs", "tokenizer", "routing", "files")


@dataclass
class MutatedBundle:
    """Files of a bundle by their names; ``tree`` is the parsed file that is mutated, ``edits`` follow on its bytes."""

    bundle: str
    files: dict[str, Content]
    name: str
    tree: Any
    edits: list[Callable[[bytes], bytes]] = field(default_factory=list)


class BundleKind(Kind):
    """Cases that are a committed bundle whose files were changed."""

    def __init__(self, root: Path, device: str) -> None:
        super().__init__(root, device)
        self.place = Workplace(root)
        self._references: dict[str, NDArray[Any]] = {}

    def run(self, case: Case) -> str:
        """Put the files in place, use the bundle, and require that nothing else was read."""
        data, files = case.data, self.files(case)
        self.place.apply(data.bundle, files)
        try:
            outcome = self.use(case, self.place.folder(data.bundle))
        finally:
            try:
                self.place.check_opened(data.bundle, files)
            finally:
                self.place.restore(data.bundle, files)
        return outcome

    def save(self, case: Case, folder: Path) -> None:
        """Write the bundle, with "special.json" for what is no file."""
        special = {}
        for name, content in self.files(case).items():
            if isinstance(content, Special):
                special[name] = vars(content)
            else:
                (folder / name).write_bytes(content)
        if special:
            (folder / "special.json").write_text(json.dumps(special))

    def reference(self, bundle: str) -> NDArray[Any]:
        """Return the outputs of a bundle as it was committed; it must be in place."""
        if bundle not in self._references:
            with use.open_model(self.place.folder(bundle), self.device) as model:
                self._references[bundle] = use.encode(model)
        return self._references[bundle]

    @abstractmethod
    def files(self, case: Case) -> dict[str, Content]:
        """Return the files of the mutated bundle, the same each time."""

    @abstractmethod
    def use(self, case: Case, folder: Path) -> str:
        """Use the bundle that is in place and return RESULT or ERROR."""


class JsonKind(BundleKind):
    """Cases in which one JSON file of a bundle is mutated as JSON, then as bytes."""

    file: ClassVar[str]

    def start(self, random: random.Random) -> MutatedBundle:
        """Choose a bundle."""
        bundle = random.choices(BUNDLES, _WEIGHTS)[0]
        files = dict(self.place.originals[bundle])
        # Before the case, for the files of the bundle are still its own.
        self.reference(bundle)
        content = files[self.file]
        assert isinstance(content, bytes)
        return MutatedBundle(bundle, files, self.file, json.loads(content))

    def mutate(self, data: MutatedBundle, random: random.Random) -> str:
        """Mutate the parsed file, or its bytes."""
        if random.random() < 0.85:
            data.tree, done = mutate_json(data.tree, random)
            return done
        return self._edit(data, random.getrandbits(64))

    def files(self, case: Case) -> dict[str, Content]:
        """Return the files, with the mutated one spelled out."""
        data = case.data
        content = to_bytes(data.tree, random.Random(case.number))  # noqa: S311
        for edit in data.edits:
            content = edit(content)
        return {**data.files, self.file: content}

    def _edit(self, data: MutatedBundle, seed: int) -> str:
        data.edits.append(lambda content: mutate_bytes(content, random.Random(seed))[0])  # noqa: S311
        return "bytes"


class Manifests(JsonKind):
    """manifest.json, and files that are not as it says."""

    name = "manifests"
    file = MANIFEST

    def mutate(self, data: MutatedBundle, random: random.Random) -> str:
        """Mutate the manifest, or one of the files that it lists."""
        return _mutate_folder(data, random) if random.random() < 0.1 else super().mutate(data, random)

    def use(self, case: Case, folder: Path) -> str:
        """Describe and open the bundle and encode."""
        # Each takes as long as the rest of most cases.
        use.check_info(folder, as_json=case.number % 2 == 0)
        with use.open_model(folder, self.device) as model:
            outputs = use.encode(model)
            use.use_prompts(model)
        if self._means_the_same(case):
            use.check_equal(outputs, self.reference(case.data.bundle))
        return RESULT

    def _means_the_same(self, case: Case) -> bool:
        bundle, files = case.data.bundle, self.files(case)
        try:
            manifest = manifest_of(files)
        except (ValueError, TypeError, RecursionError):
            return False
        original = manifest_of(self.place.originals[bundle])
        listed = self.place.originals[bundle].keys() - {MANIFEST}
        # The weights are hashed on request only.
        return (
            isinstance(manifest, dict)
            and all(manifest.get(key) == original.get(key) for key in _MEANING)
            and all(files.get(name) == self.place.originals[bundle][name] for name in listed)
        )


class Probes(JsonKind):
    """probes.json, with its hash stated."""

    name = "probes"
    file = "probes.json"

    def files(self, case: Case) -> dict[str, Content]:
        """Return the files, with sizes and hashes as they are."""
        files = super().files(case)
        state_files(files)
        return files

    def use(self, case: Case, folder: Path) -> str:
        """Verify the bundle, open it and encode."""
        verified = use.verify(folder, self.device)
        with use.open_model(folder, self.device) as model:
            outputs = use.encode(model)
        # The cpu device runs no probes of a bundle that its export verified there, and they change no output.
        use.check_equal(outputs, self.reference(case.data.bundle))
        return verified


class Measurements(JsonKind):
    """measurements.json, bound to the bundle's manifest unless a mutation hits that."""

    name = "measurements"
    file = MEASUREMENTS

    def start(self, random: random.Random) -> MutatedBundle:
        """Choose a bundle, and give it the measurements of its manifest in a file."""
        bundle = random.choices(BUNDLES, _WEIGHTS)[0]
        self.reference(bundle)
        files = dict(self.place.originals[bundle])
        manifest = files[MANIFEST]
        assert isinstance(manifest, bytes)
        quality = json.loads(manifest)["quality"]
        compression = quality["compression"] or {}
        tree = {
            "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
            "verifications": quality["verifications"],
            "not_run": quality["not_run"],
            "agreement": compression.get("agreement"),
            "calibration_agreement": (compression.get("layers") or {}).get("calibration_agreement"),
        }
        return MutatedBundle(bundle, files, self.file, tree)

    def use(self, case: Case, folder: Path) -> str:
        """Describe and open the bundle and encode; nothing that is measured changes a vector."""
        use.check_info(folder, as_json=case.number % 2 == 0)
        with use.open_model(folder, self.device) as model:
            use.check_equal(use.encode(model), self.reference(case.data.bundle))
        return RESULT


class Tokenizers(JsonKind):
    """tokenizer.json, with its hash stated."""

    name = "tokenizers"
    file = "tokenizer.json"

    def mutate(self, data: MutatedBundle, random: random.Random) -> str:
        """Mutate the tokenizer, or give it a part of another kind."""
        if random.random() < 0.25:
            key = random.choice(tuple(_TOKENIZER_PARTS))
            part = copy.deepcopy(random.choice(_TOKENIZER_PARTS[key]))
            if isinstance(data.tree, dict):
                data.tree[key] = part
            return f"{key} {json.dumps(part)[:150]}"
        return super().mutate(data, random)

    def files(self, case: Case) -> dict[str, Content]:
        """Return the files, with sizes and hashes as they are."""
        files = super().files(case)
        state_files(files)
        return files

    def use(self, case: Case, folder: Path) -> str:  # noqa: ARG002
        """Open the bundle, encode and verify it."""
        with use.open_model(folder, self.device) as model:
            use.encode(model)
        return use.verify(folder, self.device)


# Parts that the tokenizers of the committed bundles do not have; the patterns take long where no limit is set.
_PATTERNS = ("(a|a)*$", "(?:\\w+\\s?)*!", "((((.*)*)*)*)*x", "(.+)+\\1", "(?=(a+))a*b", "[", "\\p{Nope}", "." * 3000)
_HUGE = "x" * 100_000
_TOKENIZER_PARTS: dict[str, list[Any]] = {
    "normalizer": [
        *({"type": "Replace", "pattern": {"Regex": pattern}, "content": "y"} for pattern in _PATTERNS),
        {"type": "Replace", "pattern": {"String": ""}, "content": _HUGE},
        {"type": "Replace", "pattern": {"Regex": "."}, "content": _HUGE},
        {"type": "Prepend", "prepend": _HUGE},
        {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
        {"type": "Precompiled", "precompiled_charsmap": "/////wAAAAD/////"},
        {"type": "Sequence",
         "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"}] * 9},
        {"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 3000},
    ],
    "pre_tokenizer": [
        *(
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            for pattern in _PATTERNS
        ),
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        {"type": "FixedLength", "length": 0},
        {"type": "UnicodeScripts"},
    ],
    "post_processor": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "BertProcessing", "sep": ["[SEP]", 2**31], "cls": ["[CLS]", 2**32 - 1]},
        {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 2**31}}], "pair": [],
         "special_tokens": {}},
        {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2000,
         "pair": [{"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {}},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 200, "pair": [],
         "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2**32 - 1], "tokens": ["[CLS]"]}}},
    ],
    "truncation": [
        {"direction": "Left", "max_length": 96, "strategy": "LongestFirst", "stride": 95},
        {"direction": "Right", "max_length": 96, "strategy": "OnlySecond", "stride": 0},
        {"direction": "Right", "max_length": 96, "strategy": "OnlyFirst", "stride": 96},
        {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0},
        {"direction": "Right", "max_length": 96, "strategy": "LongestFirst", "stride": 2**63},
    ],
    "padding": [
        {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
         "pad_token": "[PAD]"},
        {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": 0, "pad_id": 2**32 - 1,
         "pad_type_id": 2**31, "pad_token": ""},
    ],
    "model": [
        {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "", "max_input_chars_per_word": 2**63,
         "vocab": {"[UNK]": 2**32 - 1, "a": 5}},
        {"type": "WordPiece", "unk_token": "nope", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
         "vocab": {"a": 0}},
        {"type": "BPE", "dropout": 0.5, "unk_token": None, "continuing_subword_prefix": None,
         "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": True, "vocab": {"a": 0, "b": 1, "ab": 2},
         "merges": ["a b"]},
        {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "z"]]},
        {"type": "Unigram", "unk_id": 10**9, "vocab": [["a", -1.0]], "byte_fallback": False},
        {"type": "Unigram", "unk_id": 0, "vocab": [["a", float("nan")], ["", 1e308]], "byte_fallback": True},
        {"type": "Unigram", "unk_id": None, "vocab": [], "byte_fallback": False},
        {"type": "WordLevel", "vocab": {}, "unk_token": "x"},
    ],
    "added_tokens": [
        [{"id": 2**32 - 1, "content": "a", "single_word": False, "lstrip": False, "rstrip": False,
          "normalized": True, "special": True}],
        [{"id": 5, "content": "", "single_word": False, "lstrip": True, "rstrip": True, "normalized": False,
          "special": False}],
        [{"id": 999 + i, "content": f"tok{i}", "single_word": True, "lstrip": False, "rstrip": False,
          "normalized": True, "special": i % 2 == 0} for i in range(2000)],
    ],
}  # fmt: skip


def _mutate_folder(data: MutatedBundle, random: random.Random) -> str:
    """Change files without the manifest, or in a way that its list still fits."""
    names = [name for name in data.files if name != MANIFEST]
    name = random.choice(names) if names else "extra"
    entries = data.tree.get("files") if isinstance(data.tree, dict) else None
    match random.randrange(6):
        case 0:
            data.files["unlisted.bin"] = b"x" * 100
            return "an unlisted file"
        case 1:
            data.files.pop(name, None)
            return f"without {name}"
        case 2:
            special = random.choice(
                (
                    Special("link", "../outside.bin"),
                    Special("link", name),
                    Special("folder"),
                    Special("fifo"),
                    Special("sparse", bytes=random.choice((0, 10**9, 2**40))),
                )
            )
            data.files[name] = special
            return f"{name} is a {special.kind}"
        case 3:
            content = data.files.get(name)
            if isinstance(content, bytes) and content:
                data.files[name] = mutate_bytes(content, random)[0]
            return f"other bytes of {name}"
        case 4:
            other = random.choice(("g.onnx.data", "a\tb", "x" * 255, "MODEL.ONNX", "é"))
            if isinstance(entries, dict) and name in entries and name in data.files:
                data.files[other], entries[other] = data.files.pop(name), entries.pop(name)
            return f"{name} renamed to {other[:20]!r}"
        case _:
            if isinstance(entries, dict) and isinstance(entries.get(name), dict):
                entries[name][random.choice(("bytes", "sha256"))] = hostile_value(random)
            return f"another entry of {name}"
