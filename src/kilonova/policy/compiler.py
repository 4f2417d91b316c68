"""From trees to closures.

Every node becomes one function of (credentials, target); references to other rules are resolved while
compiling, so a check at run time is a few nested calls and no look-up by rule name. A rule that refers to
itself is refused, a reference to nothing is closed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, TypeAlias

from kilonova.model.credentials import Credentials
from kilonova.policy.attributes import FLAT, nested
from kilonova.policy.errors import PolicyFileError
from kilonova.policy.parser import AllOf, AnyOf, Const, Match, Node, Not, Role, Rule

Target: TypeAlias = Mapping[str, Any]
Check: TypeAlias = Callable[[Credentials, Target], bool]

ADMIN_RULE = "context_is_admin"
_ONE_KEY = re.compile(r"%\(([^)]*)\)s")


class Compiler:
    """Compiles the rules of one rule book, each once.

    ``lookup(name)`` returns a rule's tree or None. ``is_admin:True`` means what ``context_is_admin`` says.
    """

    def __init__(self, lookup: Callable[[str], Node | None]) -> None:
        self._lookup = lookup
        self._done: dict[str, Check] = {}
        self._open: list[str] = []

    def rule(self, name: str) -> Check | None:
        """Return the compiled rule, or None if there is no such rule. PolicyFileError on a circle."""
        done = self._done.get(name)
        if done is not None:
            return done
        node = self._lookup(name)
        if node is None:
            return None
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise PolicyFileError(f"policy rules refer to each other in a circle: {circle}")
        self._open.append(name)
        try:
            self._done[name] = check = self.node(node)
        finally:
            self._open.pop()
        return check

    def node(self, node: Node) -> Check:
        """Compile one tree."""
        match node:
            case Const(value):
                return _always if value else _never
            case Rule(name):
                return self.rule(name) or _never
            case Not(inner):
                return _negate(self.node(inner))
            case AllOf(nodes):
                return _every([self.node(each) for each in nodes])
            case AnyOf(nodes):
                return _some([self.node(each) for each in nodes])
            case Role(match):
                return _role(match)
            case Match("is_admin", match) if ADMIN_RULE not in self._open:
                return _is_admin(self.rule(ADMIN_RULE) or _never, _filled(match))
            case Match(kind, match):
                return _match(kind, match)


def own_target(creds: Credentials) -> Target:
    """Return the target that stands for what is the caller's own."""
    return {"project_id": creds.project_id, "user_id": creds.user_id}


def _always(creds: Credentials, target: Target) -> bool:
    return True


def _never(creds: Credentials, target: Target) -> bool:
    return False


def _negate(inner: Check) -> Check:
    return lambda creds, target: not inner(creds, target)


def _every(checks: list[Check]) -> Check:
    if len(checks) == 2:
        first, second = checks
        return lambda creds, target: first(creds, target) and second(creds, target)

    def every(creds: Credentials, target: Target) -> bool:
        for check in checks:  # noqa: SIM110 - all() with a generator costs twice this
            if not check(creds, target):
                return False
        return True

    return every


def _some(checks: list[Check]) -> Check:
    if len(checks) == 2:
        first, second = checks
        return lambda creds, target: first(creds, target) or second(creds, target)

    def some(creds: Credentials, target: Target) -> bool:
        for check in checks:  # noqa: SIM110 - any() with a generator costs twice this
            if check(creds, target):
                return True
        return False

    return some


def _filled(match: str) -> Callable[[Target], str | None]:
    """Return a function that fills ``%(key)s`` from a target; None when a key has no value."""
    if "%" not in match:
        return lambda target: match
    one = _ONE_KEY.fullmatch(match)
    if one:
        key = one[1]

        def single(target: Target) -> str | None:
            value = target.get(key)
            return value if value is None or type(value) is str else str(value)

        return single
    keys = _ONE_KEY.findall(match)

    def several(target: Target) -> str | None:
        try:
            if any(target[key] is None for key in keys):
                return None
            return match % target
        except (KeyError, ValueError, TypeError):
            return None

    return several


def _role(match: str) -> Check:
    if "%" not in match:
        name = match.lower()
        return lambda creds, target: name in creds.roles
    filled = _filled(match)

    def role(creds: Credentials, target: Target) -> bool:
        wanted = filled(target)
        return wanted is not None and wanted.lower() in creds.roles

    return role


def _is_admin(admin: Check, filled: Callable[[Target], str | None]) -> Check:
    # Nova decides it once, about the caller's own project and user, not about the target.
    return lambda creds, target: filled(target) == str(admin(creds, own_target(creds)))


def _match(kind: str, match: str) -> Check:
    filled = _filled(match)
    try:
        literal = str(ast.literal_eval(kind))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    else:
        return lambda creds, target: filled(target) == literal
    attribute = FLAT.get(kind)
    if attribute is None:
        path = kind.split(".")
        return lambda creds, target: nested(creds, path, filled(target))
    return _flat(attribute, match, filled)


def _flat(attribute: str, match: str, filled: Callable[[Target], str | None]) -> Check:
    """Compare an attribute of the caller. One it lacks meets nothing, not even a target that lacks it too."""
    mine = attrgetter(attribute)
    one = _ONE_KEY.fullmatch(match)
    if one is None:
        return lambda creds, target: (own := mine(creds)) is not None and filled(target) == str(own)
    key = one[1]

    def same(creds: Credentials, target: Target) -> bool:
        own = mine(creds)
        return own is not None and (own == (theirs := target.get(key)) or str(own) == str(theirs))

    return same
