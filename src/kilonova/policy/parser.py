"""The policy language as a tree.

Text like ``role:member and (project_id:%(project_id)s or not @)`` becomes nodes that compare by value.
``not`` binds tighter than ``and``, ``and`` tighter than ``or``; words are case-blind; parentheses may touch
a check. What cannot be parsed is closed: a word that is no check stands for nobody, and text without
structure is a RuleSyntaxError. A broken word under ``not`` is one too, or a typing error would open a rule.
An empty text or list means everybody. Language: oslo.policy's documentation, "Policy Rule Expressions".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

RuleText: TypeAlias = "str | Sequence[str | Sequence[str]]"


class Const(msgspec.Struct, frozen=True):
    """``@`` (everybody) or ``!`` (nobody)."""

    value: bool


class Rule(msgspec.Struct, frozen=True):
    """``rule:name``: whatever that rule says."""

    name: str


class Role(msgspec.Struct, frozen=True):
    """``role:name``; the name may hold ``%(key)s`` taken from the target."""

    match: str


class Match(msgspec.Struct, frozen=True):
    """``kind:match``: a literal or an attribute of the caller against text with ``%(key)s`` filled in."""

    kind: str
    match: str


class Not(msgspec.Struct, frozen=True):
    node: Node


class AllOf(msgspec.Struct, frozen=True):
    nodes: tuple[Node, ...]


class AnyOf(msgspec.Struct, frozen=True):
    nodes: tuple[Node, ...]


Node: TypeAlias = Const | Rule | Role | Match | Not | AllOf | AnyOf

NOBODY = Const(False)
EVERYBODY = Const(True)


class RuleSyntaxError(ValueError):
    """The text is not in the policy language."""


def parse(text: RuleText, faults: list[str] | None = None) -> Node:
    """Return the tree of a rule, given as text or as the old list of lists (or of ands).

    Broken words become NOBODY and are told in ``faults``. Raises RuleSyntaxError; callers that must not
    fail treat that as NOBODY.
    """
    faults = [] if faults is None else faults
    if isinstance(text, str):
        return EVERYBODY if not text else _Reader(text, faults).read()
    if not text:
        return EVERYBODY
    rows = [[row] if isinstance(row, str) else row for row in text if row]
    branches = [_join(AllOf, [_check(word, faults) for word in row]) for row in rows]
    return _join(AnyOf, branches) if branches else NOBODY


def _join(kind: type[AllOf] | type[AnyOf], nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else kind(tuple(nodes))


def _check(word: str, faults: list[str]) -> Node:
    if word == "!":
        return NOBODY
    if word == "@":
        return EVERYBODY
    kind, colon, match = word.partition(":")
    if not colon:
        faults.append(f"{word!r} is not kind:match")
        return NOBODY
    if kind == "rule":
        return Rule(match)
    if kind == "role":
        return Role(match)
    if kind in ("http", "https"):
        faults.append(f"{word!r}: remote checks are not supported")
        return NOBODY
    return Match(kind, match)


def _words(text: str) -> Iterator[str]:
    """Split on blanks, and parentheses off the ends of words (they occur inside them, as in ``%(id)s``)."""
    for chunk in text.split():
        word = chunk.lstrip("(")
        yield from "(" * (len(chunk) - len(word))
        clean = word.rstrip(")")
        if clean:
            if len(clean) > 1 and clean[0] == clean[-1] and clean[0] in "'\"":
                raise RuleSyntaxError(f"{clean} is a text where a check should be")
            yield clean
        yield from ")" * (len(word) - len(clean))


class _Reader:
    def __init__(self, text: str, faults: list[str]) -> None:
        self._words = list(_words(text))
        self._faults = faults
        self._at = 0

    def read(self) -> Node:
        node = self._any_of()
        if self._at < len(self._words):
            raise RuleSyntaxError(f"unexpected {self._words[self._at]!r}")
        return node

    def _peek(self) -> str:
        return self._words[self._at].lower() if self._at < len(self._words) else ""

    def _any_of(self) -> Node:
        nodes = [self._all_of()]
        while self._peek() == "or":
            self._at += 1
            nodes.append(self._all_of())
        return _join(AnyOf, nodes)

    def _all_of(self) -> Node:
        nodes = [self._one()]
        while self._peek() == "and":
            self._at += 1
            nodes.append(self._one())
        return _join(AllOf, nodes)

    def _one(self) -> Node:
        word = self._peek()
        if word in ("", ")", "and", "or"):
            raise RuleSyntaxError(f"expected a check, found {word or 'the end'!r}")
        self._at += 1
        if word == "not":
            known = len(self._faults)
            inner = self._one()
            if len(self._faults) > known:
                raise RuleSyntaxError(f"under not: {self._faults[-1]}")
            return Not(inner)
        if word == "(":
            node = self._any_of()
            if self._peek() != ")":
                raise RuleSyntaxError("a parenthesis is not closed")
            self._at += 1
            return node
        return _check(self._words[self._at - 1], self._faults)
