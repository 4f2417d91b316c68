"""`manage enroll`, `revoke`, `members`: who belongs to the queue."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kilonova.cli.errors import CliError
from kilonova.cli.manage.table import add_json, show

_ENROLL = """Make the key of a process and put its public record among the enrolled. The key (NAME.key, mode 0600) stays
on the machine of the process; its public record (enrolled/NAME.json) goes to every machine of the cloud: copy it, or
take it in there with --record. Running processes notice within a second."""


def add(commands: Any, base: argparse.ArgumentParser) -> None:
    from kilonova.bus.api import ROLES

    enroll = commands.add_parser(
        "enroll", aliases=["enrol"], parents=[base], help="make a process a member of the queue", description=_ENROLL
    )
    enroll.add_argument("name", metavar="NAME", nargs="?", help="what the process is called, as in [kilonova] name")
    enroll.add_argument("--role", choices=ROLES)
    enroll.add_argument(
        "--speaks-for", action="append", default=[], metavar="PATTERN",
        help="more host names this process is (a trailing * stands for any ending); only for hosts",
    )  # fmt: skip
    enroll.add_argument("--address", default="", metavar="HOST:PORT", help="where a conductor is dialled")
    enroll.add_argument("--record", type=Path, metavar="FILE", help="take in another machine's public record instead")
    enroll.set_defaults(act=_enroll)

    revoke = commands.add_parser("revoke", parents=[base], help="end a process's membership, within a second")
    revoke.add_argument("name", metavar="NAME")
    revoke.add_argument("--forget-key", action="store_true", help="also remove its private key from this machine")
    revoke.set_defaults(act=_revoke)

    members = commands.add_parser("members", parents=[base], help="list who is enrolled on this machine")
    add_json(members)
    members.set_defaults(act=_members)


def _keys(args: argparse.Namespace) -> Path:
    from kilonova.cli.compose.connect import queue_keys
    from kilonova.cli.manage.opened import settings_of

    return queue_keys(settings_of(args))


def _enroll(args: argparse.Namespace) -> int:
    import msgspec

    from kilonova.bus.enrolment import Enrolled, EnrolmentError, create_keys, enrol

    keys = _keys(args)
    try:
        if args.record is not None:
            record = msgspec.json.decode(args.record.read_bytes(), type=Enrolled)
        else:
            if not args.name or not args.role:
                raise CliError("a new member needs NAME and --role", code=2)
            if args.role == "conductor" and not args.address:
                raise CliError("a conductor needs --address HOST:PORT, as transport_url lists it", code=2)
            made = create_keys(keys, args.name)
            record = made.public(args.name, args.role, tuple(args.speaks_for), args.address)
        enrol(keys, record)
    except EnrolmentError as error:
        raise CliError(str(error)) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise CliError(f"{args.record or keys}: {error}") from None
    print(f"{record.name} is enrolled as {record.role}; its record is {keys / 'enrolled' / f'{record.name}.json'}")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    from kilonova.bus.enrolment import Directory, EnrolmentError, revoke

    keys = _keys(args)
    known = Directory(keys).get(args.name) is not None
    try:
        revoke(keys, args.name)
    except EnrolmentError as error:
        raise CliError(str(error)) from None
    if args.forget_key:
        (keys / f"{args.name}.key").unlink(missing_ok=True)
    if not known:
        raise CliError(f"{args.name} is not enrolled in {keys}")
    print(f"{args.name} is no longer enrolled on this machine")
    return 0


def _members(args: argparse.Namespace) -> int:
    from kilonova.bus.enrolment import Directory

    keys = _keys(args)
    folder = keys / "enrolled"
    directory = Directory(keys)
    rows = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        record = directory.get(path.stem)
        if record is None:
            rows.append((path.stem, "unreadable", "", "", ""))
        else:
            here = "yes" if (keys / f"{record.name}.key").exists() else "no"
            rows.append((record.name, record.role, record.address, " ".join(record.speaks_for), here))
    show(args, ("name", "role", "address", "speaks_for", "key_here"), rows)
    return 0
