"""Commands from conductors to hosts, and what hosts report (contracts: Host, Bus).

A command is idempotent: it names an end state ("ensure"), and carries a key under which the host
remembers the result, and a fence below which the host refuses.
"""

from __future__ import annotations

from msgspec import Raw, Struct

from kilonova.model.guest import GuestFact, GuestSpec, HostFacts


class Fence(Struct, frozen=True, order=True, array_like=True):
    """Order of authority over one server: later operations, later owners and undos win."""

    number: int
    """The server's operation number."""
    epoch: int
    """The operation's epoch: + 1 with each new owner."""
    undo: int = 0
    """0 forward, 1 undo."""


class Command(Struct, frozen=True, kw_only=True):
    """One call to a host about one server."""

    server: str
    fence: Fence
    key: str
    """`operation id / step name / step key [/undo]`; a known key is answered from the file of results."""
    method: str
    """One of the Method constants below."""
    args: Raw = Raw(b"null")
    """JSON of the method's own argument struct."""


class Method:
    """Names of what a host can be told, with the type of args -> output."""

    SPAWN = "guest.spawn"
    """SpawnArgs -> GuestFact: fetch the image, make the disks, define and start."""
    DESTROY = "guest.destroy"
    """DestroyArgs -> null: no guest, no disk, no interface; "not there" is success."""
    POWER_ON = "guest.power_on"
    """PowerArgs -> GuestFact."""
    POWER_OFF = "guest.power_off"
    """PowerArgs -> GuestFact: ACPI first for `graceful_s`, then pull the plug."""
    REBOOT = "guest.reboot"
    """RebootArgs -> GuestFact."""
    CONSOLE = "guest.console"
    """ConsoleArgs -> ConsoleOutput. Needs no fence: reads only."""
    FENCE = "guest.fence"
    """null -> null: only raises the fence, so that nothing older can land any more."""
    FORGET = "host.forget"
    """ForgetArgs (no Command around it) -> null: drop results that are safely recorded elsewhere."""


class SpawnArgs(Struct, frozen=True, kw_only=True):
    spec: GuestSpec


class DestroyArgs(Struct, frozen=True, kw_only=True):
    keep_disks: bool = False


class PowerArgs(Struct, frozen=True, kw_only=True):
    spec: GuestSpec
    graceful_s: int = 0


class RebootArgs(Struct, frozen=True, kw_only=True):
    spec: GuestSpec
    kind: str
    """SOFT or HARD."""
    graceful_s: int = 60
    """SOFT: how long the guest may take before it is rebooted hard."""


class ConsoleArgs(Struct, frozen=True, kw_only=True):
    lines: int | None = None


class Forgotten(Struct, frozen=True, kw_only=True):
    """Results of one server that nobody will ask for again."""

    server: str
    keys: tuple[str, ...] = ()
    """Empty: all of them."""


class ForgetArgs(Struct, frozen=True, kw_only=True):
    items: tuple[Forgotten, ...]


class ConsoleOutput(Struct, frozen=True, kw_only=True):
    output: str


class StepResult(Struct, frozen=True, kw_only=True):
    """The outcome of one command, kept by the host under its key until told to forget."""

    server: str
    key: str
    ok: bool
    output: Raw = Raw(b"null")
    code: str = ""
    """When not ok, a stable code: `refused`, `no_space`, `image_invalid`, `image_gone`, `image_service`, `hypervisor`,
    `unreachable` (no conductor to ask), `interrupted` (the compute service ended in the middle), `fenced`, `internal`.
    """
    message: str = ""
    """When not ok: what went wrong, for the operator; no secret in it."""
    retry: bool = False
    """When not ok: whether the same call may succeed later (Transient)."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far a long command has come; overwritten, never queued."""

    server: str
    key: str
    percent: int
    detail: str = ""


class HostReport(Struct, frozen=True, kw_only=True):
    """What a host says of itself; levels, never edges. Applied if (incarnation, seq) is newer."""

    host: str
    incarnation: str
    seq: int
    beat: int
    """Counter, + 1 a second while the host's loop turns."""
    full: bool = False
    """The lists are complete: what is not in `guests` is not on the host."""
    facts: HostFacts | None = None
    guests: tuple[GuestFact, ...] = ()
    gone: tuple[str, ...] = ()
    """Guests seen before and no longer there."""
    busy: tuple[str, ...] = ()
    """Servers that a command was at work on: nothing is said of them."""
    numbers: dict[str, int] = {}
    """Server -> operation number of the last command begun for it before it was looked at: who knows of a later
    one does not believe this report about it. Servers that the host has no record of are left out."""
    results: tuple[StepResult, ...] = ()
    progress: tuple[Progress, ...] = ()


class HostBeats(Struct, frozen=True, kw_only=True):
    """The payload of every report: one process's sign of life, for all hosts it is, and what some of them have to say.

    A host's own `HostReport` always travels inside. Sent each second with or without reports; the
    acknowledgement means that every report in it is committed.
    """

    process: str
    """As enrolled; the host's own name where a process is one host."""
    incarnation: str
    """Sorts after those of earlier lives of this process."""
    beat: int
    """+ 1 a second while the loop turns; counts for every member."""
    members: str
    """Digest of the names of the hosts this process is."""
    hosts: tuple[str, ...] | None = None
    """The names. Sent at first, after a change, and after the answer RemoteError("unknown_members")."""
    reports: tuple[HostReport, ...] = ()
