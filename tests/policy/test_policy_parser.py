"""The language: precedence, parentheses, old lists, and that what is broken is closed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonova.policy.parser import (
    EVERYBODY,
    NOBODY,
    AllOf,
    AnyOf,
    Match,
    Not,
    Role,
    Rule,
    RuleSyntaxError,
    parse,
)

A, B, C = Role("a"), Rule("b"), Match("user_id", "%(user_id)s")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", EVERYBODY),
        ("@", EVERYBODY),
        ("!", NOBODY),
        ("role:a or rule:b and user_id:%(user_id)s", AnyOf((A, AllOf((B, C))))),
        ("(role:a or rule:b) and user_id:%(user_id)s", AllOf((AnyOf((A, B)), C))),
        ("not role:a and rule:b", AllOf((Not(A), B))),
        ("NOT not role:a", Not(Not(A))),
        ("((role:a))", A),
        ("( role:a And rule:b )or role:a", None),
        ([], EVERYBODY),
        ([["role:a", "rule:b"], "user_id:%(user_id)s"], AnyOf((AllOf((A, B)), C))),
        ([[], ["role:a"]], A),
        ([[]], NOBODY),
    ],
)
def test_tree(text, tree):
    if tree is None:
        with pytest.raises(RuleSyntaxError):
            parse(text)
    else:
        assert parse(text) == tree


@pytest.mark.parametrize(
    "text", ["role:a role:b", "and", "role:a or", "(role:a", "role:a)", "not", "'text'", "  ", "not broken"]
)
def test_broken_text_is_refused(text):
    with pytest.raises(RuleSyntaxError):
        parse(text)


def test_a_broken_word_is_nobody_and_told():
    faults: list[str] = []
    assert parse("role:a or broken or http://policy/x", faults) == AnyOf((A, NOBODY, NOBODY))
    assert len(faults) == 2


@given(st.text(alphabet="()!@ abnotrdule:%'\"", max_size=60))
def test_any_text_parses_or_is_refused(text):
    try:
        parse(text)
    except RuleSyntaxError:
        pass


def test_deep_nesting_does_not_crash_the_enforcer():
    from kilonova.policy import Enforcer

    enforcer = Enforcer({"deep": "(" * 100_000 + "@" + ")" * 100_000}, defaults=[])
    assert "allows nobody" in enforcer.warnings[0]
