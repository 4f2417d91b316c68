"""The one question: may this caller do that to this thing?

Defaults with an operator's overrides laid over them, resolved and compiled when made. Rules follow
oslo.policy 6 with ``enforce_scope`` and ``enforce_new_defaults`` on, as Nova 34 runs it: a token of the
wrong scope is refused before the check, deprecated checks are not added to the new ones, and a file that
still sets the older name of a rule that was split keeps its effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from kilonova.model.credentials import Credentials
from kilonova.policy.compiler import ADMIN_RULE, Check, Compiler, Target, own_target
from kilonova.policy.errors import PolicyForbidden, UnknownRule
from kilonova.policy.files import Override, read_overrides
from kilonova.policy.parser import NOBODY, Node, Rule, RuleSyntaxError, RuleText, parse
from kilonova.policy.rules import RuleDefault, default_rules


class Enforcer:
    """Decides by rule name. Immutable; safe to share between tasks and threads.

    ``overrides`` maps rule names to rule text (or the old list form). ``defaults`` are the shipped rules,
    Nova's if not given. ``default_rule`` names the rule that stands in where a reference leads nowhere.
    ``origins``: the file of each override. ``warnings`` holds one line per oddity found: for the log, at start.
    """

    def __init__(
        self,
        overrides: Mapping[str, RuleText] | None = None,
        *,
        defaults: Iterable[RuleDefault] | None = None,
        default_rule: str = "default",
        origins: Mapping[str, str] | None = None,
    ) -> None:
        self.defaults = {rule.name: rule for rule in (default_rules() if defaults is None else defaults)}
        self.warnings: list[str] = []
        self._origins = origins or {}
        self._default_rule = default_rule
        self._set = {name: self._parse(name, text) for name, text in (overrides or {}).items()}
        self._trees = {name: self._resolve(rule) for name, rule in self.defaults.items()} | self._set
        compiler = Compiler(self._lookup)
        self._checks: dict[str, tuple[bool, Check]] = {}
        for name in self._trees:
            check = compiler.rule(name)
            if check is not None:
                rule = self.defaults.get(name)
                self._checks[name] = (rule is not None and bool(rule.scopes), check)
        self._warn_unknown()

    @classmethod
    def from_files(
        cls,
        paths: Iterable[Path | str] = (),
        *,
        defaults: Iterable[RuleDefault] | None = None,
        default_rule: str = "default",
    ) -> Enforcer:
        """Read ``policy.yaml``, ``policy.json`` or a directory of them, later ones winning.

        Paths that do not exist are passed over: a file holds overrides only. Raises PolicyFileError.
        """
        found: dict[str, Override] = read_overrides(paths)
        return cls(
            {name: override.text for name, override in found.items()},
            defaults=defaults,
            default_rule=default_rule,
            origins={name: override.origin for name, override in found.items()},
        )

    def check(self, rule: str, creds: Credentials, target: Target | None = None) -> bool:
        """Tell whether ``creds`` meets ``rule`` for ``target`` (flat keys, as ``project_id``).

        Without a target the caller's own project and user are meant. Raises UnknownRule.
        """
        try:
            scoped, check = self._checks[rule]
        except KeyError:
            raise UnknownRule(rule) from None
        if scoped and not self._in_scope(rule, creds):
            return False
        if target is None:
            target = own_target(creds)
        return check(creds, target)

    def authorize(self, rule: str, creds: Credentials, target: Target | None = None) -> None:
        """Return if allowed, else raise PolicyForbidden with Nova's text."""
        if not self.check(rule, creds, target):
            raise PolicyForbidden(rule)

    def is_admin(self, creds: Credentials) -> bool:
        """Tell what ``context_is_admin`` says of the caller: the operator's file may move it."""
        return self.check(ADMIN_RULE, creds)

    def __contains__(self, rule: str) -> bool:
        return rule in self._checks

    def _in_scope(self, rule: str, creds: Credentials) -> bool:
        if creds.system_scope:
            return "system" in self.defaults[rule].scopes
        if creds.domain_id:
            return "domain" in self.defaults[rule].scopes
        return "project" in self.defaults[rule].scopes

    def _parse(self, name: str, text: RuleText) -> Node:
        where = self._origins.get(name, "policy")
        faults: list[str] = []
        try:
            tree = parse(text, faults)
        except (RuleSyntaxError, RecursionError) as fault:
            self.warnings.append(f"{where}: rule {name!r} is not understood and allows nobody: {fault}")
            return NOBODY
        self.warnings += [f"{where}: rule {name!r}: this part allows nobody: {fault}" for fault in faults]
        return tree

    def _resolve(self, rule: RuleDefault) -> Node:
        """Return the tree of a default, or that of its older name where only that one was overridden."""
        if rule.replaces is not None and rule.name not in self._set:
            old_name, old_check = rule.replaces
            old = self._set.get(old_name)
            if old is not None and old != parse(old_check) and old != Rule(rule.name):
                where = self._origins.get(old_name, "policy")
                self.warnings.append(f"{where}: rule {old_name!r} is old; it now decides {rule.name!r}")
                return old
        return parse(rule.check)

    def _lookup(self, name: str) -> Node | None:
        tree = self._trees.get(name)
        return tree if tree is not None else self._trees.get(self._default_rule)

    def _warn_unknown(self) -> None:
        old_names = {rule.replaces[0] for rule in self.defaults.values() if rule.replaces}
        used = {self._default_rule} | old_names | self.defaults.keys()
        for tree in self._set.values():
            used |= _references(tree)
        for name in sorted(self._set.keys() - used):
            where = self._origins.get(name, "policy")
            self.warnings.append(f"{where}: rule {name!r} is known to nobody and has no effect")


def _references(node: Node) -> set[str]:
    if isinstance(node, Rule):
        return {node.name}
    children = getattr(node, "nodes", None) or ((node.node,) if hasattr(node, "node") else ())
    return set().union(*(_references(child) for child in children))
