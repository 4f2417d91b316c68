"""A resource declares each field once, with the versions it lives in; everything else is made from that.

::

    SERVER = Resource("server", [
        Field("name", show=lambda s, look: s.name, create=In(NAME, required=True), update=In(NAME)),
        Field("description", since=19, show=..., create=In(DESCRIPTION), update=In(DESCRIPTION)),
        Field("tags", since=26, show=..., create=In(TAGS, since=52)),
    ])
    SERVER.body("create").check(body, version)
    SERVER.view("show").render(server, look, version, flags)

A field with different rules in different versions stands there several times with disjoint spans, or
with several `In`. Bodies and views are compiled once for each span of versions in which they are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from kilonova.api.microversion.validation import Schema, Validator
from kilonova.api.microversion.version import LATEST, OLDEST

OMIT: Any = object()
"""What a getter returns when the field is not shown this time."""

Getter = Callable[[Any, Any], Any]
"""(item, look) -> what is shown; `look` is the view's context, one a request."""


class In(Struct, frozen=True):
    """A field in a request."""

    schema: Schema
    since: int | None = None
    """None: as the field."""
    until: int | None = None
    required: bool = False


class Out(Struct, frozen=True):
    """A field in an answer, where that takes more words than ``show=getter``."""

    get: Getter
    since: int | None = None
    until: int | None = None
    sometimes: bool = False
    """The getter may return OMIT."""
    flag: str | None = None
    """Shown only when the view is rendered with this flag (a policy that widens the answer)."""


class Field:
    """One name in requests and answers."""

    __slots__ = ("name", "since", "until", "uses")

    def __init__(
        self, name: str, *, since: int = OLDEST, until: int = LATEST, **uses: In | Out | Getter | tuple[In | Out, ...]
    ) -> None:
        """`uses`: by the name of the body (``create=In(...)``) or view (``show=getter`` or ``Out``) it is part of."""
        made: dict[str, tuple[In | Out, ...]] = {}
        for use, rules in uses.items():
            listed = rules if isinstance(rules, tuple) else (rules,)
            made[use] = tuple(
                _spanned(rule if isinstance(rule, In | Out) else Out(rule), since, until) for rule in listed
            )
        self.name, self.since, self.until = name, since, until
        self.uses: Mapping[str, tuple[In | Out, ...]] = made

    def __repr__(self) -> str:
        return f"Field({self.name!r}, since={self.since}, until={self.until})"


def _spanned(rule: In | Out, since: int, until: int) -> In | Out:
    return replace(
        rule,
        since=since if rule.since is None else rule.since,
        until=until if rule.until is None else rule.until,
    )


def lives(rule: Any, version: int) -> bool:
    """Whether a rule's span holds `version`."""
    return bool(rule.since <= version <= rule.until)


class Body:
    """A request body (or query) declared by fields; its schema for every version."""

    def __init__(
        self,
        rules: Sequence[tuple[str, In]],
        *,
        wrapper: str | None = None,
        strict: bool | int = True,
        siblings: Mapping[str, Schema] | None = None,
        rest: Schema | None = None,
        query: bool = False,
        limits: Schema | None = None,
    ) -> None:
        """`wrapper`: the member that holds the fields. `strict`: whether other properties are refused, or
        the version since when. `siblings`: optional members beside the wrapper. `rest`: patternProperties.
        `query`: values are lists of texts, errors speak of query parameters. `limits`: more keywords of the
        inner object, as minProperties.
        """
        self._rules = rules
        self._wrapper, self._siblings, self._rest, self._query = wrapper, dict(siblings or {}), rest, query
        self._strict_since = (OLDEST if strict else LATEST + 1) if isinstance(strict, bool) else strict
        self._limits = dict(limits or {})
        edges = {OLDEST, self._strict_since}
        for _, rule in rules:
            edges |= {rule.since or OLDEST, (rule.until or LATEST) + 1}
        self._edges = sorted(edge for edge in edges if edge <= LATEST)
        self._compiled: dict[tuple[int, bool], Validator] = {}
        self._edge_of = [0] * (LATEST + 1)
        for version in range(OLDEST, LATEST + 1):
            self._edge_of[version] = max(edge for edge in self._edges if edge <= version)

    def schema(self, version: int) -> Schema:
        """The JSON schema in `version`."""
        properties: dict[str, Any] = {}
        required = []
        for name, rule in self._rules:
            if lives(rule, version):
                properties[name] = rule.schema
                if rule.required:
                    required.append(name)
        inner: dict[str, Any] = {"type": "object", "properties": properties, **self._limits}
        if required:
            inner["required"] = required
        if self._rest:
            inner["patternProperties"] = self._rest
        inner["additionalProperties"] = version < self._strict_since
        if self._wrapper is None:
            return inner
        return {
            "type": "object",
            "properties": {self._wrapper: inner, **self._siblings},
            "required": [self._wrapper],
            "additionalProperties": False,
        }

    def check(self, body: Any, version: int, relaxed: bool = False) -> None:
        """Raise BadRequest in Nova's words when `body` does not fit. `relaxed`: unknown properties pass (/v2)."""
        key = (self._edge_of[version], relaxed)
        validator = self._compiled.get(key)
        if validator is None:
            validator = self._compiled[key] = Validator(
                self.schema(key[0]), relaxed=relaxed, query=self._query, newer=self._newer(key[0])
            )
        validator.check(body)

    def _newer(self, version: int) -> dict[str, int]:
        """Names that are unknown in `version` and accepted later: name -> since."""
        known = {name for name, rule in self._rules if lives(rule, version)}
        later: dict[str, int] = {}
        for name, rule in self._rules:
            since = rule.since or OLDEST
            if since > version and name not in known:
                later[name] = min(since, later.get(name, LATEST))
        return later


_Pairs = list[tuple[str, Getter]]


class View:
    """An answer declared by fields."""

    def __init__(self, rules: Sequence[tuple[str, Out]]) -> None:
        self._rules = rules
        self._plans: dict[tuple[int, frozenset[str]], tuple[_Pairs, _Pairs]] = {}

    def plan(self, version: int, flags: frozenset[str] = frozenset()) -> tuple[_Pairs, _Pairs]:
        """The (name, getter) pairs of a version: those always shown, those shown sometimes."""
        key = (version, flags)
        plan = self._plans.get(key)
        if plan is None:
            rules = [
                (name, rule)
                for name, rule in self._rules
                if lives(rule, version) and (rule.flag is None or rule.flag in flags)
            ]
            plan = self._plans[key] = (
                [(name, rule.get) for name, rule in rules if not rule.sometimes],
                [(name, rule.get) for name, rule in rules if rule.sometimes],
            )
        return plan

    def render(self, item: Any, look: Any, version: int, flags: frozenset[str] = frozenset()) -> dict[str, Any]:
        """`item` as shown in `version` to who has `flags`."""
        always, sometimes = self.plan(version, flags)
        shown = {name: get(item, look) for name, get in always}
        for name, get in sometimes:
            value = get(item, look)
            if value is not OMIT:
                shown[name] = value
        return shown


class Resource:
    """A noun of the API: its fields, and the bodies and views made of them."""

    def __init__(self, name: str, fields: Iterable[Field]) -> None:
        self.name, self.fields = name, tuple(fields)

    def body(self, use: str, *, wrapper: str | None = "", **how: Any) -> Body:
        """The body of `use`; wrapped in the resource's name unless `wrapper` says otherwise (None: bare)."""
        rules = [
            (each.name, rule) for each in self.fields for rule in each.uses.get(use, ()) if isinstance(rule, In)
        ]
        return Body(rules, wrapper=self.name if wrapper == "" else wrapper, **how)

    def view(self, use: str = "show") -> View:
        """The view of `use`."""
        return View(
            [(each.name, rule) for each in self.fields for rule in each.uses.get(use, ()) if isinstance(rule, Out)]
        )


def query(*fields: tuple[str, In], strict: bool | int = 75) -> Body:
    """A query string's declaration: names with the schema of each value; unknown ones are refused from `strict` on."""
    spanned = [(name, replace(rule, schema={"type": "array", "items": rule.schema})) for name, rule in fields]
    return Body([(n, _in(r)) for n, r in spanned], strict=strict, query=True)


def _in(rule: In) -> In:
    made = _spanned(rule, OLDEST, LATEST)
    assert isinstance(made, In)
    return made
