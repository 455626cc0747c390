"""Which prompt a call gets."""

from __future__ import annotations

import logging

import pytest

from monograph import InputError
from monograph.inputs import DOCUMENT_PROMPTS, QUERY_PROMPTS, find_prompt_name, resolve_prompt

PROMPTS = {"query": "search: ", "passage": "text: ", "document": ""}


@pytest.mark.parametrize(
    ("default_name", "prompt_name", "prompt", "expected"),
    [
        (None, None, None, ""),
        ("query", None, None, "search: "),
        ("document", None, None, ""),
        ("gone", None, None, ""),
        (None, "passage", None, "text: "),
        ("query", "passage", None, "text: "),
        ("query", "document", None, ""),
        (None, None, "own: ", "own: "),
        ("query", None, "own: ", "own: "),
        ("query", None, "", ""),
    ],
)
def test_a_prompt_wins_over_a_name_and_a_name_over_the_default(
    default_name: str | None,
    prompt_name: str | None,
    prompt: str | None,
    expected: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert resolve_prompt(PROMPTS, default_name, prompt_name, prompt) == expected
    assert not caplog.records


@pytest.mark.parametrize("name", ["query", "of no prompt"])
@pytest.mark.parametrize("prompt", ["own: ", ""])
def test_a_prompt_and_a_name_give_the_prompt_and_a_warning(
    name: str, prompt: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="monograph"):
        assert resolve_prompt(PROMPTS, None, name, prompt) == prompt
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "prompt_name" in record.message


@pytest.mark.parametrize("name", ["Query", "", "title", 3])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"it has: 'query', 'passage', 'document'$") as caught:
        resolve_prompt(PROMPTS, "query", name, None)
    assert repr(name) in str(caught.value)


def test_an_unknown_name_of_a_model_without_prompts_says_so() -> None:
    with pytest.raises(InputError, match=r"it has: none$"):
        resolve_prompt({}, None, "query", None)


@pytest.mark.parametrize("prompt", [3, b"own: ", ["own: "], True])
def test_a_prompt_that_is_no_str_is_refused(prompt: object) -> None:
    with pytest.raises(InputError, match=f"prompt must be a str, got {type(prompt).__name__}"):
        resolve_prompt(PROMPTS, None, None, prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompts", "names", "expected"),
    [
        (PROMPTS, QUERY_PROMPTS, "query"),
        (PROMPTS, DOCUMENT_PROMPTS, "document"),
        ({"corpus": "c", "passage": "p"}, DOCUMENT_PROMPTS, "passage"),
        ({"corpus": "c"}, DOCUMENT_PROMPTS, "corpus"),
        ({"query": "q"}, DOCUMENT_PROMPTS, None),
        ({}, QUERY_PROMPTS, None),
        (PROMPTS, (), None),
    ],
)
def test_the_first_name_that_the_model_knows_is_chosen(
    prompts: dict[str, str], names: tuple[str, ...], expected: str | None
) -> None:
    assert find_prompt_name(prompts, names) == expected
