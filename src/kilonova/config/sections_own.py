"""Sections that Nova does not have: what this program adds."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from kilonova.config.types import Count, Names, Port, Positive


class Kilonova(Struct, frozen=True, kw_only=True):
    """[kilonova]: where the cloud lives and how it is reached."""

    dir: str | None = None  # the cloud's directory; None: chosen by the launcher
    host: str = "127.0.0.1"
    port: Port = 8774
    driver: Literal["auto", "libvirt", "sim"] = "auto"
    sim_hosts: Count = 1
    region: str = "RegionOne"
    insecure: bool = False  # listen beyond loopback without TLS
    tls_cert: str | None = None
    tls_key: str | None = None
    allowed_hosts: Names = ()  # Host headers served besides the address listened on
    max_body_mb: Positive = 64  # JSON bodies; image data is streamed and has no such limit
    cell: str = "cell1"
    url: str | None = None  # how clients reach the APIs, http://name:port; None: as each one addressed us
    name: str | None = None  # this process on the queue, as enrolled; None: the service's name and this host's
    queue_keys: str | None = None  # the folder of enrolled keys; None: queue-keys in the cloud's directory
    token_keys: str | None = None  # the folder of the identity keys; None: keys in the cloud's directory
    sim_prefix: str = "sim"  # sim hosts are called sim-0001, ...


class Log(Struct, frozen=True, kw_only=True):
    """[log]: lines to stderr or a file. DEFAULT debug, log_file, log_dir and use_json count too."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    json: bool = False
    file: str | None = None
    queue: Positive = 10_000  # lines waiting for the writer; more are dropped and counted


class Watchdog(Struct, frozen=True, kw_only=True):
    """[watchdog]: the sampling of event-loop lag."""

    enabled: bool = True
    threshold_ms: Positive = 20


class Pools(Struct, frozen=True, kw_only=True):
    """[pools]: threads and children by kind of work; ``queue`` is how many may wait for each."""

    files: Positive = 2
    password: Positive = 1
    libvirt: Positive = 4
    libvirt_stats: Positive = 2
    heavy: Positive = 2
    light: Positive = 8
    queue: Positive = 256
