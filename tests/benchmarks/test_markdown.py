"""The table of results that README has between its marks."""

from __future__ import annotations

import pytest

from monograph.errors import InputError
from monograph_bench.report.markdown import BEGIN, END, with_table


def test_the_table_takes_the_place_between_the_marks() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_table(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["# A text\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_text_without_a_place_for_the_table_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no place for the table"):
        with_table(text, "| a |")
