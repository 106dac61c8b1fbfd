"""Formulas of docstrings become LaTeX, and prose, code and arguments stay what they are."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "sphinx"))
from formulas import docstring, latex, to_rst


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("u - eta w eps_hat", r"u - \eta w \hat {\varepsilon}"),
        ("alpha' beta - alpha beta'", r"\dot {\alpha} \beta - \alpha \dot {\beta}"),
        ("beta_t^2", r"\beta_{t} ^{2}"),
        ("sqrt(beta_s^2 - sigma^2)", r"\sqrt{\beta_{s} ^{2} - \sigma ^{2}}"),
        ("E[z|x]", r"\mathbb E[z \mid x ]"),
    ],
)
def test_a_formula_is_read(text: str, shown: str) -> None:
    assert latex(text) == shown


@pytest.mark.parametrize("text", ["field.u(x, t, y)", "log_prob(x, t, y)", "steps = 50", "the noise", "sample_ode"])
def test_code_and_prose_are_no_formula(text: str) -> None:
    assert to_rst(f"`{text}`") == f"``{text}``"
    assert ":math:" not in to_rst(text)


def test_a_formula_in_prose_ends_where_words_begin() -> None:
    found = to_rst("By default g^2 = 2 eta beta w, whose drift is a mean; shape (B, ...).")
    assert found == r"By default :math:`g ^{2} = 2 \eta \beta w`, whose drift is a mean; shape (B, ...)."


def test_what_has_a_meaning_in_restructuredtext_loses_it() -> None:
    assert to_rst("*args, a|b, name_") == r"\*args, a\|b, name\_"


def test_examples_and_names_of_arguments_are_left_alone() -> None:
    lines = ["Args:", "    sigma_max: noise at t = 0, beta_0.", "", "Example:", "    >>> beta_t = 2 * 3", "    6"]
    found = docstring(lines)
    assert found[1] == r"    sigma_max: noise at t = 0, :math:`\beta_{0}`."
    assert found[4:] == lines[4:]


def test_an_indented_block_is_code() -> None:
    found = docstring(["A system may also have", "", "    sample(module, *parts)   -> Tensor", "", "and more_."])
    assert found == [
        "A system may also have",
        "",
        "::",
        "",
        "    sample(module, *parts)   -> Tensor",
        "",
        r"and more\_.",
    ]


def test_a_formula_may_go_on_in_the_next_line() -> None:
    assert docstring(["By `beta_t", "eps_hat` alone."]) == [r"By :math:`\beta_{t} \hat {\varepsilon}` alone."]


def test_markup_is_parted_from_what_follows() -> None:
    assert to_rst("`D`s, beta_t(") == r"``D``\ s, :math:`\beta_{t}`\ ("


def test_a_long_word_takes_no_time() -> None:
    assert docstring(["a" * 200]) == ["a" * 200]
