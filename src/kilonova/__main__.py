"""The `kilonova` command as a module: what ./kilonova and re-executed processes start."""

from __future__ import annotations

import sys

from kilonova.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
