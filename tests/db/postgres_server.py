"""A private PostgreSQL server for the tests: a directory of its own, a Unix socket, no port, no password.

It runs as an unprivileged user (PostgreSQL refuses root) and ends with the test session, killed or not.
Databases are copies of a template that holds all tables, which takes some tens of milliseconds each.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

START_S = 30.0
_PR_SET_PDEATHSIG = 1


class MissingPostgresError(Exception):
    """No PostgreSQL server is installed."""


def find_binaries() -> Path:
    """Return the folder with initdb and postgres, the newest version's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).resolve().parent
    raise MissingPostgresError("PostgreSQL is not installed (Debian: postgresql)")


class PostgresServer:
    """One server. `start()`, then `url(database)`; `stop()` removes everything."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self.binaries = find_binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="kn-pg-"))
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        quick = {"fsync": "off", "full_page_writes": "off", "max_connections": "60", "deadlock_timeout": "50ms"}
        self.settings = {**quick, **(settings or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._libc = ctypes.CDLL(None)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://kilonova@/{database}?host={self.folder}"

    def new_name(self) -> str:
        return f"kn{next(self._numbers)}"

    def _as_user(self) -> dict[str, object]:
        if os.geteuid() != 0:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _die_with_parent(self) -> Callable[[], None]:
        libc = self._libc
        return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)

    def create(self) -> None:
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        command = [
            self.binaries / "initdb", "--pgdata", self.data, "--username", "kilonova", "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C", "--no-sync",
        ]  # fmt: skip
        subprocess.run(command, check=True, cwd=self.folder, capture_output=True, **self._as_user())

    def start(self) -> None:
        if not self.data.exists():
            self.create()
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **self.settings}
        command = [str(self.binaries / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=self._die_with_parent(), **self._as_user(),
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)

    def _ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        assert self.process is not None
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def halt(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT breaks connections, SIGQUIT is a crash."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)


def running(settings: dict[str, str] | None = None) -> Generator[PostgresServer, None, None]:
    """Yield a running server, for a fixture."""
    server = PostgresServer(settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
