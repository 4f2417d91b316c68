"""Fixtures of the command-line tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_checkout import Checkout, copy_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A fresh copy without any environment."""
    return Checkout(copy_checkout(tmp_path / "a checkout"), tmp_path / "home")
