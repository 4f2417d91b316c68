"""Decisions: personas, scopes, overrides, renamed rules, and failing closed."""

import itertools
import subprocess
import sys

import pytest

from kilonova.model.credentials import Credentials
from kilonova.policy import Enforcer, PolicyFileError, PolicyForbidden, RuleDefault, UnknownRule, default_rules

OWN = {"project_id": "p1", "user_id": "u1"}
OTHER = {"project_id": "p2", "user_id": "u2"}
CREATE, SHOW, LIST_HOSTS = (
    "os_compute_api:servers:create",
    "os_compute_api:servers:show",
    "os_compute_api:os-hypervisors:list",
)


def who(*roles, project="p1", user="u1", **more):
    return Credentials.make(user, roles, project_id=project, **more)


PERSONAS = {
    "admin": who("admin", project="p9", user="u9"),
    "manager": who("manager"),
    "member": who("member"),
    "reader": who("reader"),
    "service": who("service", project="p9", user="u9"),
    "nobody": who(user="u1"),
}
# check of a rule -> personas it lets act on their own project's things
ALLOWED = {
    "rule:context_is_admin": {"admin"},
    "rule:project_manager_or_admin": {"admin", "manager"},
    "rule:project_member_or_admin": {"admin", "manager", "member"},
    "rule:project_reader_or_admin": {"admin", "manager", "member", "reader"},
    "rule:service_or_admin": {"admin", "service"},
    "(rule:context_is_admin) or user_id:%(user_id)s": {"admin", "manager", "member", "reader", "nobody"},
    "@": set(PERSONAS),
    "!": set(),
}


@pytest.fixture(scope="module")
def enforcer():
    return Enforcer()


def test_every_persona_against_every_rule(enforcer):
    rules = [rule for rule in default_rules() if rule.operations]
    assert len(rules) == 203
    for rule, (name, creds) in itertools.product(rules, PERSONAS.items()):
        assert enforcer.check(rule.name, creds, OWN) is (name in ALLOWED[rule.check]), (rule.name, name)


def test_another_project_is_closed_to_all_but_admin(enforcer):
    for name, creds in PERSONAS.items():
        assert enforcer.check(SHOW, creds, OTHER) is (name == "admin")


def test_own_project_is_the_target_when_none_is_given(enforcer):
    assert enforcer.check(CREATE, who("member"))
    assert not enforcer.check(CREATE, who("reader"))


def test_a_caller_without_project_never_matches_a_target_without_one(enforcer):
    unscoped = Credentials.make("u1", ["member"])
    assert not enforcer.check(CREATE, unscoped, {"project_id": None})
    assert not enforcer.check(CREATE, unscoped, {})
    assert not enforcer.check(CREATE, unscoped)


@pytest.mark.parametrize("scope", [{"system_scope": "all"}, {"domain_id": "default"}])
def test_tokens_of_another_scope_are_refused(enforcer, scope):
    creds = Credentials.make("root", ["admin"], **scope)
    assert not enforcer.check(LIST_HOSTS, creds)
    with pytest.raises(PolicyForbidden):
        enforcer.authorize("os_compute_api:limits", creds)
    assert enforcer.is_admin(creds)


def test_refusal_reads_as_nova_says_it(enforcer):
    with pytest.raises(PolicyForbidden) as refused:
        enforcer.authorize(LIST_HOSTS, who("member"))
    assert str(refused.value) == f"Policy doesn't allow {LIST_HOSTS} to be performed."


def test_a_rule_nobody_declared_is_a_bug(enforcer):
    with pytest.raises(UnknownRule):
        enforcer.check("os_compute_api:nothing", who("admin"))


def test_overrides_replace_and_base_rules_reach_everywhere():
    opened = Enforcer({LIST_HOSTS: "role:auditor", "context_is_admin": "role:boss"})
    assert opened.check(LIST_HOSTS, who("Auditor"))
    assert not opened.check(LIST_HOSTS, who("admin"))
    assert opened.check(SHOW, who("boss"), OTHER)
    assert not opened.check(SHOW, who("admin"), OTHER)
    assert opened.is_admin(who("boss"))
    assert Enforcer({"mine": "is_admin:True", "context_is_admin": "role:boss"}).check("mine", who("boss"))


def test_is_admin_is_about_the_caller_not_the_target():
    rules = {"context_is_admin": "project_id:%(project_id)s and role:boss", "x": "is_admin:True"}
    assert Enforcer(rules).check("x", who("boss"), OTHER)
    rules["context_is_admin"] = "not project_id:%(project_id)s"
    assert not Enforcer(rules).check("x", who("member"), OTHER)


def test_the_older_name_of_a_split_rule_still_counts():
    old = "os_compute_api:os-hypervisors"
    opened = Enforcer({old: "role:member"})
    assert opened.check(LIST_HOSTS, who("member"))
    assert any(old in line for line in opened.warnings)
    assert not Enforcer({old: "role:member", LIST_HOSTS: "!"}).check(LIST_HOSTS, who("member"))
    assert not Enforcer({old: "rule:admin_api"}).check(LIST_HOSTS, who("member")), "unchanged old default"


@pytest.mark.parametrize("text", ["role:admin and", "broken", "not broken", "rule:nowhere", "http://x/y"])
def test_what_is_broken_lets_nobody_in(text):
    assert not Enforcer({CREATE: text}).check(CREATE, who("admin"))


def test_the_default_rule_stands_in_for_missing_ones():
    rules = {CREATE: "rule:nowhere", "default": "role:member"}
    assert Enforcer(rules).check(CREATE, who("member"))


def test_a_circle_is_refused():
    with pytest.raises(PolicyFileError, match="x -> y -> x"):
        Enforcer({"x": "rule:y", "y": "not rule:x"})


def test_unknown_names_are_warned_of_unless_used():
    warnings = Enforcer({"stray": "@", "used": "@", CREATE: "rule:used"}).warnings
    assert [line for line in warnings if "stray" in line]
    assert not [line for line in warnings if "used" in line]


@pytest.mark.parametrize(
    ("text", "target", "allowed"),
    [
        ("role:%(want)s", {"want": "MEMBER"}, True),
        ("role:%(want)s", {}, False),
        ("'Member':%(role.name)s", {"role.name": "Member"}, True),
        ("True:%(enabled)s", {"enabled": True}, True),
        ("True:%(enabled)s", {"enabled": False}, False),
        ("1:%(n)s", {"n": 1}, True),
        ("user_id:u1", {}, True),
        ("user_id:%(prefix)s%(n)s", {"prefix": "u", "n": 1}, True),
        ("tenant_id:%(tenant_id)s", {"tenant_id": "p1"}, True),
        ("token.project.id:%(project_id)s", {"project_id": "p1"}, True),
        ("token.user.domain.id:default", {}, True),
        ("token.roles.name:reader", {}, True),
        ("token.domain.id:%(missing)s", {}, False),
        ("service_roles:service", {}, True),
        ("is_admin:True", {}, False),
        ("is_admin:False", {}, True),
        ("nosuch:x", {}, False),
        ("system_scope:all", {}, False),
    ],
)
def test_checks(text, target, allowed):
    creds = who("member", service_roles=["service"])
    assert Enforcer({"x": text}, defaults=[]).check("x", creds, target) is allowed


def test_system_scope_where_a_rule_takes_it():
    rule = RuleDefault("identity:list_users", "role:reader and system_scope:all", ("system", "project"))
    enforcer = Enforcer(defaults=[rule])
    assert enforcer.check(rule.name, Credentials.make("u", ["admin"], system_scope="all"))
    assert not enforcer.check(rule.name, who("admin"))


def test_a_start_without_overrides_imports_no_yaml():
    code = "import sys; from kilonova.policy import Enforcer; Enforcer(); sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
