"""The caller: implied roles, scope, expiry, and a repr that tells no secret."""

import pytest

from kilonova.model.credentials import Credentials, with_implied


def test_roles_imply_each_other_without_case():
    assert with_implied(["Admin"]) == {"admin", "manager", "member", "reader"}
    assert with_implied(["manager", "other"]) == {"manager", "member", "reader", "other"}
    assert with_implied(["service"]) == {"service"}


@pytest.mark.parametrize(
    ("facts", "scope"),
    [
        ({"project_id": "p"}, "project"),
        ({"system_scope": "all"}, "system"),
        ({"domain_id": "d"}, "domain"),
        ({}, "unscoped"),
    ],
)
def test_scope(facts, scope):
    assert Credentials.make("u", [], **facts).scope == scope


def test_expiry_is_exact_and_zero_is_never():
    assert Credentials.make("u", [], expires_at=10).expired(10)
    assert not Credentials.make("u", [], expires_at=10).expired(9)
    assert not Credentials.make("u", []).expired(2**62)


def test_is_admin_and_repr():
    creds = Credentials.make("u", ["admin"], project_id="p", token_id="digest")
    assert creds.is_admin
    assert "digest" not in repr(creds)
    with pytest.raises(TypeError):
        Credentials.make("u", [], nonsense=1)
