"""All settings as one frozen value that is passed around; there is no global.

Attributes are the section names in lower case (``settings.default`` is [DEFAULT]) and the option names
with underscores. Every value knows where it came from: :meth:`Settings.source`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import fields

from kilonova.config.sections_compute import (
    Compute,
    Consoleauth,
    Default,
    ImageCache,
    Libvirt,
    SerialConsole,
    Spice,
    Vnc,
)
from kilonova.config.sections_control import (
    Api,
    Conductor,
    Database,
    FilterScheduler,
    Notifications,
    OsloMessagingNotifications,
    OsloMessagingRabbit,
    OsloMiddleware,
    OsloPolicy,
    Quota,
    Scheduler,
)
from kilonova.config.sections_neighbours import (
    Cinder,
    Glance,
    Keystone,
    KeystoneAuthtoken,
    Neutron,
    Placement,
    ServiceUser,
)
from kilonova.config.sections_own import Kilonova, Log, Pools, Watchdog


class Shown(NamedTuple):
    """One line of ``config show``. ``value`` never holds a secret; ``source`` is ``default`` or a place."""

    section: str
    option: str
    value: str
    source: str


class Settings(Struct, frozen=True, kw_only=True):
    """Typed settings by section. ``warnings`` are lines for the log: unknown and meaningless options."""

    kilonova: Kilonova = Kilonova()
    log: Log = Log()
    watchdog: Watchdog = Watchdog()
    pools: Pools = Pools()
    default: Default = Default()
    libvirt: Libvirt = Libvirt()
    compute: Compute = Compute()
    image_cache: ImageCache = ImageCache()
    vnc: Vnc = Vnc()
    spice: Spice = Spice()
    serial_console: SerialConsole = SerialConsole()
    consoleauth: Consoleauth = Consoleauth()
    database: Database = Database()
    api_database: Database = Database()
    cell0_database: Database = Database()
    api: Api = Api()
    conductor: Conductor = Conductor()
    scheduler: Scheduler = Scheduler()
    filter_scheduler: FilterScheduler = FilterScheduler()
    quota: Quota = Quota()
    oslo_policy: OsloPolicy = OsloPolicy()
    oslo_middleware: OsloMiddleware = OsloMiddleware()
    notifications: Notifications = Notifications()
    oslo_messaging_rabbit: OsloMessagingRabbit = OsloMessagingRabbit()
    oslo_messaging_notifications: OsloMessagingNotifications = OsloMessagingNotifications()
    keystone_authtoken: KeystoneAuthtoken = KeystoneAuthtoken()
    keystone: Keystone = Keystone()
    service_user: ServiceUser = ServiceUser()
    glance: Glance = Glance()
    neutron: Neutron = Neutron()
    cinder: Cinder = Cinder()
    placement: Placement = Placement()
    sources: dict[tuple[str, str], str] = {}
    warnings: tuple[str, ...] = ()

    def source(self, section: str, option: str) -> str:
        """Return ``default``, ``file:line``, ``KILONOVA_...`` or ``override`` for an option."""
        return self.sources.get((attribute(section), option), "default")

    def explain(self) -> Iterator[Shown]:
        """Yield every option with its value and source, for ``config show``."""
        for name in SECTIONS:
            section: Any = getattr(self, name)
            for info in fields(section):
                value = getattr(section, info.name)
                yield Shown(shown(name), info.name, _text(value), self.source(name, info.name))


# The attributes of Settings that are sections.
SECTIONS: dict[str, type[Struct]] = {
    name: type(value)
    for name, value in ((name, getattr(Settings(), name)) for name in Settings.__struct_fields__)
    if isinstance(value, Struct)
}


def attribute(section: str) -> str:
    """Return the attribute of a section as written in a file: [DEFAULT] is ``default``."""
    return section.lower()


def shown(name: str) -> str:
    """Return a section as a file writes it."""
    return "DEFAULT" if name == "default" else name


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
