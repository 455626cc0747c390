"""The file of vectors: its formats, its state, and what a run that was cut off leaves to the next."""

from __future__ import annotations

import errno
import io
import json
import os
import pkgutil
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import InputError
from monograph.tasks.embedding import EMBEDDING, EmbeddingSection
from monograph.vector_file.disk import open_locked
from monograph.vector_file.formats import NpyFormat, VectorFormat
from monograph.vector_file.partial import open_vector_file
from monograph.vector_file.progress import TextsDigest

FLOATS = NpyFormat(np.dtype(np.float32), 3)
PLAN = EMBEDDING.post_process(EmbeddingSection(3, True, "cosine", ()))
LINES = EMBEDDING.vector_formats[".jsonl"](PLAN)
TEXTS = [f"text {number}" for number in range(10)]
VECTORS = np.random.default_rng(1).standard_normal((10, 3)).astype(np.float32)
SETTINGS = {"model": "a"}


class CutOffError(Exception):
    """What ends a run before its time."""


def write(
    output: Path, blocks: Sequence[int], *, vector_format: VectorFormat[Any] = FLOATS, resume: bool = False,
    settings: dict[str, str] = SETTINGS, texts: Sequence[str] = TEXTS, whole: bool = True,
) -> None:  # fmt: skip
    """Write ``VECTORS`` in blocks of these sizes, after those that are there."""
    with open_vector_file(output, vector_format, settings, resume=resume) as file:
        awaited = file.remaining(texts)
        for size in blocks:
            start = file.texts
            for _ in range(size):
                next(awaited)
            file.append(VECTORS[start : start + size])
        if not whole:
            raise CutOffError


def begin(
    output: Path, *, vector_format: VectorFormat[Any] = FLOATS, blocks: Sequence[int] = (4,)
) -> tuple[Path, Path]:
    """Leave a file that was cut off after these blocks; return the partial file and the state."""
    with pytest.raises(CutOffError) as caught:
        write(output, blocks, vector_format=vector_format, whole=False)
    partial = output.with_name(f"{output.name}.partial")
    assert caught.value.__notes__ == [f"{sum(blocks)} texts are in {partial}, --resume continues from there"]
    return partial, output.with_name(f"{output.name}.progress")


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("columns", [1, 384, 99_999])
def test_the_head_of_npy_is_numpys_and_of_one_length(dtype: str, columns: int) -> None:
    vector_format = NpyFormat(np.dtype(dtype), columns)
    saved = io.BytesIO()
    np.save(saved, np.zeros((7, columns), dtype=dtype))
    header = vector_format.header(7)
    assert saved.getvalue().startswith(header)
    assert len(header) + 7 * columns * np.dtype(dtype).itemsize == len(saved.getvalue())
    assert {len(vector_format.header(rows)) for rows in (0, 1, 10**6, 10**18)} == {len(header)}


@pytest.mark.parametrize("vector_format", [FLOATS, LINES], ids=lambda vector_format: vector_format.name)
def test_a_file_that_is_not_whole_cannot_be_loaded(vector_format: VectorFormat[Any], tmp_path: Path) -> None:
    partial, state = begin(tmp_path / "out", vector_format=vector_format)
    assert json.loads(state.read_bytes())["texts"] == 4
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="pickle"):
        np.load(partial)


@pytest.mark.parametrize("vector_format", [FLOATS, LINES], ids=lambda vector_format: vector_format.name)
@pytest.mark.parametrize("torn", [b"", b"torn", bytes(1000)], ids=len)
def test_resumed_is_as_if_written_at_once(vector_format: VectorFormat[Any], torn: bytes, tmp_path: Path) -> None:
    write(tmp_path / "whole", [4, 5, 1], vector_format=vector_format)
    partial, _ = begin(tmp_path / "out", vector_format=vector_format)
    with partial.open("ab") as file:
        file.write(torn)
    with pytest.raises(CutOffError):
        write(tmp_path / "out", [5], vector_format=vector_format, resume=True, whole=False)
    write(tmp_path / "out", [1], vector_format=vector_format, resume=True)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_resumed_after_the_last_block(tmp_path: Path) -> None:
    begin(tmp_path / "out", blocks=[4, 6])
    write(tmp_path / "out", [], resume=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out"), VECTORS)


def test_nothing_to_resume(tmp_path: Path) -> None:
    write(tmp_path / "out", [10], resume=True)
    # Cut off between the rename and the removal of the state.
    (tmp_path / "out.progress").write_text("a state of nothing")
    write(tmp_path / "out", [10], resume=True)
    # Killed before the first block.
    (tmp_path / "out.partial").write_bytes(bytes(128))
    write(tmp_path / "out", [10], resume=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out"), VECTORS)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_complete_file_is_written_again_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "out", [10], resume=True)
    write(tmp_path / "out", [10])
    assert "complete" not in caplog.text
    write(tmp_path / "out", [10], resume=True)
    assert f"nothing to resume for {tmp_path / 'out'}, which is complete: all texts are embedded again" in caplog.text


def test_a_partial_file_that_lost_its_state_starts_over(tmp_path: Path) -> None:
    _, state = begin(tmp_path / "out")
    state.unlink()
    write(tmp_path / "out", [10], resume=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out"), VECTORS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: "{", "is damaged"),
        (lambda _: "", "is damaged"),
        (lambda _: "[" * 100_000, "is damaged"),
        (lambda _: "[]", "is damaged"),
        (lambda state: json.dumps({**state, "texts": "4"}), "texts must be an integer"),
        (lambda state: json.dumps({**state, "texts": -4}), "at least 1"),
        (lambda state: json.dumps({**state, "settings": {"model": 1}}), "settings must hold strings only"),
        (lambda state: json.dumps({**state, "state_version": 2}), "of another release"),
        (lambda state: json.dumps({**state, "bytes": 10**6}), "bytes where"),
        (lambda state: json.dumps({**state, "bytes": 5}), "bytes where"),
        (lambda state: json.dumps({**state, "texts": 5}), "not those of"),
    ],
)
def test_a_damaged_state_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    partial, state = begin(tmp_path / "out")
    content = partial.read_bytes()
    state.write_text(change(json.loads(state.read_bytes())))
    with pytest.raises(InputError, match=words) as caught:
        write(tmp_path / "out", [6], resume=True)
    assert re.search("remove .* to start over", str(caught.value))
    assert not hasattr(caught.value, "__notes__")
    assert partial.read_bytes() == content


def test_without_resume_what_is_done_is_preserved(tmp_path: Path) -> None:
    partial, state = begin(tmp_path / "out")
    before = partial.read_bytes(), state.read_bytes()
    with pytest.raises(InputError) as caught:
        write(tmp_path / "out", [10])
    assert str(caught.value) == (
        f"4 texts of an interrupted run are in {partial}: --resume continues from there; remove that file to start over"
    )
    assert (partial.read_bytes(), state.read_bytes()) == before
    # What it says is enough: a state without its file is a state of nothing.
    partial.unlink()
    write(tmp_path / "out", [10])
    np.testing.assert_array_equal(np.load(tmp_path / "out"), VECTORS)


def test_without_resume_a_damaged_state_is_no_reason_to_replace_what_is_done(tmp_path: Path) -> None:
    _, state = begin(tmp_path / "out")
    state.write_text("{")
    with pytest.raises(InputError, match=r"is damaged .* remove it to start over"):
        write(tmp_path / "out", [10])
    state.unlink()
    write(tmp_path / "out", [10])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_resume_a_partial_file_in_which_nothing_is_done_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.partial").write_bytes(bytes(128))
    write(tmp_path / "out", [10])
    np.testing.assert_array_equal(np.load(tmp_path / "out"), VECTORS)


def test_a_file_system_whose_inode_numbers_change_is_an_error_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    with pytest.raises(OSError, match="inode number changes every time") as caught:
        open_locked(tmp_path / "out.partial")
    assert caught.value.filename == str(tmp_path / "out.partial")


@pytest.mark.parametrize("suffix", EMBEDDING.vector_formats)
def test_every_format_is_made_by_the_suffix_of_its_file(suffix: str, tmp_path: Path) -> None:
    vector_format = EMBEDDING.vector_formats[suffix](PLAN)
    write(tmp_path / f"out{suffix}", [10], vector_format=vector_format)
    assert vector_format.name.startswith(suffix.removeprefix("."))


def test_a_partial_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    partial, _ = begin(tmp_path / "out")
    partial.write_bytes(partial.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"has 175 bytes where .* says 176"):
        write(tmp_path / "out", [6], resume=True)


def test_other_settings_are_all_named(tmp_path: Path) -> None:
    begin(tmp_path / "out")
    with pytest.raises(InputError, match="model: a there, b now; --prompt: none there, '' now"):
        write(tmp_path / "out", [6], resume=True, settings={"model": "b", "prompt": ""})


def test_other_texts_are_refused(tmp_path: Path) -> None:
    begin(tmp_path / "out")
    with pytest.raises(InputError, match="first 4 texts are not those"):
        write(tmp_path / "out", [6], resume=True, texts=["another", *TEXTS[1:]])
    with pytest.raises(InputError, match="has 3 texts, but 4 are done"):
        write(tmp_path / "out", [], resume=True, texts=TEXTS[:3])
    # Texts that are not done yet may differ.
    write(tmp_path / "out", [6], resume=True, texts=[*TEXTS[:4], *"abcdef"])


def test_where_texts_begin_and_end_counts() -> None:
    digests = set()
    for texts in (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], []):
        digest = TextsDigest()
        for text in texts:
            digest.add(text)
        digests.add(digest.value())
    assert len(digests) == 6


def test_one_writer_a_file(tmp_path: Path) -> None:
    with open_vector_file(tmp_path / "out", FLOATS, SETTINGS, resume=False) as first:
        next(first.remaining(TEXTS))
        first.append(VECTORS[:1])
        for resume in (False, True):
            with pytest.raises(InputError, match=r"out\.partial is being written by another run"):
                write(tmp_path / "out", [10], resume=resume)
    np.testing.assert_array_equal(np.load(tmp_path / "out"), VECTORS[:1])


def test_an_interrupt_right_after_a_state_was_written_counts_it(tmp_path: Path) -> None:
    def cut_off() -> None:
        with open_vector_file(tmp_path / "out", FLOATS, SETTINGS, resume=False) as file:
            list(file.remaining(TEXTS[:4]))
            file.append(VECTORS[:4])
            file._progress = None
            raise CutOffError

    with pytest.raises(CutOffError) as caught:
        cut_off()
    assert caught.value.__notes__[0].startswith("4 texts are in")
    write(tmp_path / "out", [6], resume=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out"), VECTORS)


def test_nothing_done_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CutOffError) as caught:
        write(tmp_path / "out", [], whole=False)
    assert not hasattr(caught.value, "__notes__")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder: name a file"):
        write(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    open_locked(tmp_path / "vectors.npy").close()
    assert "vectors.npy is not guarded against a second run: No locks available" in caplog.text


@pytest.mark.parametrize("step", ["disk._lock", "partial.VectorFile"])
def test_an_interrupt_while_the_file_is_made_leaves_none(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"monograph.vector_file.{step}"
    with monkeypatch.context() as patch:
        calls: list[object] = []

        def interrupt_once(*arguments: Any, **options: Any) -> Any:
            calls.append(arguments)
            if len(calls) == 1:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        real = pkgutil.resolve_name(path)
        patch.setattr(path, interrupt_once)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "out.npy", (4,))
    assert not list(tmp_path.iterdir())
