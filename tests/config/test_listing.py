"""Docstrings are wrapped again for a terminal; what their authors laid out stays as it is."""

import pytest

from dbp.registry.listing import reflow

FULL = "word " * 22 + "words"  # 115 characters, which end where a class's docstring has no room


@pytest.mark.parametrize("text", ["Short.\n\n    y = f(x)\n    z = g(y)", "One line\nand another\n\n- a\n- b", ""])
def test_what_fits_stays(text):
    assert reflow(text) == text


def test_a_paragraph_that_the_source_broke_is_one():
    assert reflow(f"{FULL}\nlonger words") == "\n".join(["word " * 15 + "word", "word " * 6 + "words longer words"])


def test_what_continues_an_argument_is_indented():
    text = f"Args:\n    size: {FULL[:104]}\n        longer words\n    other: words"
    first, *rest = reflow(text).splitlines()[1:]
    assert first.startswith("    size: word")
    assert all(line.startswith("        ") for line in rest[:-1])
    assert rest[-1] == "    other: words"


def test_equations_in_a_row_stand_below_each_other():
    assert reflow(f"    {'a' * 40} = b,   {'c' * 40} = d") == f"    {'a' * 40} = b,\n    {'c' * 40} = d"
