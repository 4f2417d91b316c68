"""An operator's files: YAML, JSON, a directory, and what is refused in them."""

import pytest

from kilonova.model.credentials import Credentials
from kilonova.policy import Enforcer, PolicyFileError

RULE = "os_compute_api:servers:create"
READER = Credentials.make("u1", ["reader"], project_id="p1")


def test_yaml_then_directory_later_wins(tmp_path):
    (tmp_path / "policy.yaml").write_text(f'# only overrides\n"{RULE}": "!"\n"base": "role:reader"\n')
    extra = tmp_path / "policy.d"
    extra.mkdir()
    (extra / "10-open.yaml").write_text(f'"{RULE}": [["rule:base"]]\n')
    (extra / ".hidden").write_text("}")
    files = [tmp_path / "policy.yaml", extra, tmp_path / "absent.yaml"]
    assert Enforcer.from_files(files).check(RULE, READER)


def test_json_needs_no_yaml(tmp_path):
    (tmp_path / "policy.json").write_text(f'{{"{RULE}": "@"}}')
    assert Enforcer.from_files([tmp_path / "policy.json"]).check(RULE, READER)


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "policy.yaml").write_text("# nothing\n")
    assert not Enforcer.from_files([tmp_path / "policy.yaml"]).check(RULE, READER)


@pytest.mark.parametrize(
    "text", [f'"{RULE}": !\n', f'"{RULE}": 1\n', f'"{RULE}":\n', "- a\n", "a: [b\n", "1: x\n", "{bad", "\xff"]
)
def test_unusable_files_are_refused_by_name(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text, "latin-1")
    with pytest.raises(PolicyFileError, match=r"policy\.yaml"):
        Enforcer.from_files([path])


def test_warnings_name_the_file(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(f'"{RULE}": "role:a and"\n')
    assert str(path) in Enforcer.from_files([path]).warnings[0]
