"""The command table: what is imported when, and how commands end."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kilonova import __version__
from kilonova.cli import main
from kilonova.cli.errors import CliError, MissingPackagesError

HEAVY = ("argparse", "asyncio", "json", "logging", "sqlalchemy", "msgspec", "uvicorn", "numpy", "subprocess")


def test_version_imports_next_to_nothing() -> None:
    code = (
        "import sys\nfrom kilonova.cli.main import main\nmain(['--version'])\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"kilonova {__version__}", ""]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in main.COMMANDS)
    assert main.main([]) == 2


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["fly"]) == 2
    assert "no command 'fly'" in capsys.readouterr().err


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_that_exists_keeps_the_contract(name: str) -> None:
    module = f"kilonova.cli.{main.COMMANDS[name].module}"
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} isn't there yet")
    loaded = main.load(name)
    assert hasattr(loaded, "run_words") or (hasattr(loaded, "add_arguments") and hasattr(loaded, "run"))


@pytest.mark.parametrize(
    ("error", "code"),
    [(CliError("no"), 1), (MissingPackagesError("no"), 3), (KeyboardInterrupt(), 130), (BrokenPipeError(), 0)],
)
def test_commands_end_without_tracebacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    def run_words(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(main, "load", lambda name: SimpleNamespace(run_words=run_words))
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # a broken pipe drops it
    assert main.main(["bench"]) == code
    assert capsys.readouterr().err == ("kilonova: no\n" if isinstance(error, CliError) else "")
