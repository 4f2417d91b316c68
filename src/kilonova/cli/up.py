"""Start the whole cloud: packages, guest image, accounts, and then everything in one process on one port."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from kilonova import __version__
from kilonova.cli import place, running, state
from kilonova.cli.errors import CliError
from kilonova.cli.progress import Phase

MIN_FREE = 256 << 20
_NETWORKED = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs", "fuse.glusterfs"}
_READY_S = 90.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    place.add_dir_argument(parser)
    parser.add_argument("--host", default=None, help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=None, help="port to listen on (default: 8774)")
    parser.add_argument(
        "--driver", choices=("auto", "libvirt", "sim"), default=None,
        help="what runs the guests (default: auto, libvirt with KVM only if a kernel is seen to run under it)",
    )  # fmt: skip
    parser.add_argument("--sim-hosts", type=int, default=None, metavar="N", help="hosts of the sim driver (default: 1)")
    parser.add_argument("--detach", action="store_true", help="return when the cloud is ready")
    parser.add_argument(
        "--config", type=Path, action="append", default=[], metavar="FILE", help="settings (TOML or nova.conf)"
    )
    parser.add_argument("--tls", action="store_true", help="serve HTTPS, certified by the cloud's own authority")
    parser.add_argument("--insecure", action="store_true", help="allow plain HTTP beyond loopback")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)


def check_folder(folder: Path) -> None:
    """See that DIR can hold a cloud. Raises CliError: unreadable, on a network file system, no room."""
    try:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        probe = folder / ".write-check"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise CliError(f"{folder} cannot be used: {error.strerror}; choose another with --dir") from None
    kind = file_system(folder)
    if kind in _NETWORKED:
        raise CliError(f"{folder} is on a network file system ({kind}); the database needs a local disk: use --dir")
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE:
        raise CliError(f"only {free >> 20} MB are free in {folder}; the cloud needs {MIN_FREE >> 20} MB to start")


def file_system(folder: Path) -> str:
    """The type of the file system that holds `folder`, as /proc/mounts names it."""
    best, kind = "", ""
    target = os.path.realpath(folder)
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        point = fields[1].encode().decode("unicode_escape")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def run(args: argparse.Namespace) -> int:
    folder: Path = args.dir
    try:
        check_folder(folder)
        settings = _settings(args)
        if args.detach:
            if running.is_held(folder):
                raise CliError(f"a cloud already runs in {folder}; `kilonova status` shows it")
            return _detach(args, settings)
        return _foreground(args, settings)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise CliError(_full(folder)) from None
        raise CliError(f"{error.filename or folder}: {error.strerror or error}") from None


def _settings(args: argparse.Namespace) -> object:
    from kilonova.config import ConfigError, load

    overrides = {
        f"kilonova.{name}": value
        for name, value in (("host", args.host), ("port", args.port), ("driver", args.driver),
                            ("sim_hosts", args.sim_hosts), ("insecure", args.insecure or None))
        if value is not None
    }  # fmt: skip
    files = args.config or [p for p in (args.dir / "kilonova.toml",) if p.exists()]
    try:
        return load(files, os.environ, overrides)
    except ConfigError as error:
        raise CliError(str(error), 2) from None


def _loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _foreground(args: argparse.Namespace, settings: object) -> int:
    from kilonova import log
    from kilonova.cli.compose.plan import prepare
    from kilonova.cli.compose.server import bind
    from kilonova.config.settings import Settings

    assert isinstance(settings, Settings)
    own = settings.kilonova
    if not _loopback(own.host) and not (args.tls or own.tls_cert or own.insecure):
        raise CliError(f"listening on {own.host} needs --tls (a certificate of this cloud's own) or --insecure")
    with running.hold(args.dir):
        # What an earlier life said of itself is not true of this one.
        (args.dir / place.STATE).unlink(missing_ok=True)
        sock = bind(own.host, own.port)
        plan = prepare(args.dir, settings, tls=args.tls)
        target = args.dir / place.LOG
        log.setup(
            settings.log.level, settings.log.json, settings.log.file or str(target), queue=settings.log.queue,
            sighup=args.child,  # in the foreground it is the terminal's end, and ours
        )  # fmt: skip
        try:
            return _serve(plan, settings, sock, quiet=args.child)
        finally:
            log.close()


def _serve(plan: object, settings: object, sock: socket.socket, *, quiet: bool) -> int:
    from kilonova import log
    from kilonova.cli.compose.whole import Cloud
    from kilonova.cli.compose.whole import run as run_cloud
    from kilonova.cli.compose.whole_plan import Plan
    from kilonova.config.settings import Settings
    from kilonova.db.errors import DatabaseError, StorageFull

    assert isinstance(plan, Plan)
    assert isinstance(settings, Settings)
    for line in settings.warnings:
        log.get_logger(__name__).warning("%s", line)
    started = time.monotonic()

    def ready(cloud: Cloud, notes: list[str]) -> None:
        state.write(
            plan.folder, url=plan.url, driver=plan.driver, verdict=plan.verdict,
            started_at=time.time_ns() // 1000, version=__version__, notes=notes,
        )  # fmt: skip
        if not quiet:
            print(banner(plan.folder, plan.url, time.monotonic() - started, notes), flush=True)

    try:
        import uvloop
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        with runner:
            runner.run(run_cloud(plan, settings, sock, ready))
    except StorageFull:
        raise CliError(_full(plan.folder)) from None
    except DatabaseError as error:
        log.get_logger(__name__).error("the database cannot be used", exc_info=True)
        raise CliError(str(error)) from None
    return 0


def _full(folder: Path) -> str:
    return f"the disk that holds {folder} is full; make room and start again"


def banner(folder: Path, url: str, seconds: float, notes: list[str]) -> str:
    """What a newcomer needs: where it is, where the passwords are, three commands to try; then `notes`, a line each."""
    option = "" if folder == place.default_dir() else f" --dir {folder}"
    lines = ["", f"kilonova is up at {url} ({seconds:.1f} s)"]
    if (folder / place.CLOUDS).exists():
        lines += [
            f"Credentials are in {folder / place.CLOUDS}: clouds kilonova, kilonova-admin, kilonova-system", *notes, "",
            "Try next:",
            f"  ./kilonova openstack{option} image list",
            f"  ./kilonova openstack{option} server create --flavor m1.micro --image kilonova-guest"
            " --network private --wait first",
            f"  ./kilonova console{option} first",
        ]  # fmt: skip
    else:
        lines += notes
    return "\n".join([*lines, ""])


def _detach(args: argparse.Namespace, settings: object) -> int:
    """Prepare here, where progress can be seen; run in a session of its own; return when it answers."""
    from kilonova.cli.compose.plan import prepare
    from kilonova.cli.compose.server import bind
    from kilonova.cli.status import is_answering
    from kilonova.config.settings import Settings

    assert isinstance(settings, Settings)
    own = settings.kilonova
    if not _loopback(own.host) and not (args.tls or own.tls_cert or own.insecure):
        raise CliError(f"listening on {own.host} needs --tls (a certificate of this cloud's own) or --insecure")
    bind(own.host, own.port).close()
    prepare(args.dir, settings, tls=args.tls)
    words = [word for word in sys.argv[1:] if word != "--detach"]
    (args.dir / place.STATE).unlink(missing_ok=True)
    started = time.monotonic()
    output = args.dir / "up.out"
    with Phase("Starting the cloud"), output.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-I", "-m", "kilonova", *words, "--child"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
        while True:
            code = child.poll()
            if code is not None:
                said = output.read_text(errors="replace").strip().splitlines()
                raise CliError(said[-1] if said else f"the cloud ended with code {code}", code or 1)
            told = state.read(args.dir)
            url = told.get("url")
            if url and is_answering(str(url), args.dir):
                break
            if time.monotonic() - started > _READY_S:
                raise CliError(f"the cloud is not ready after {_READY_S:.0f} s; see {args.dir / place.LOG}")
            time.sleep(0.02)
    print(banner(args.dir, str(url), time.monotonic() - started, list(told.get("notes", ()))), flush=True)
    return 0
