"""The two URLs of a configuration, taken apart: where the database is and where the queue is.

Spelling is SQLAlchemy's for databases and oslo.messaging's for transports, as operators have them in
nova.conf. Nothing here connects to anything.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

import msgspec

from kilonova.config.secret import Secret

DIALECTS = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql"}
DIALECTS["mariadb"] = "mysql"
DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "rabbit": 5672, "zmq": 0, "memory": 0}
TRANSPORTS = {"rabbit": "rabbit", "amqp": "rabbit", "rabbits": "rabbit", "amqps": "rabbit", "kombu": "rabbit"}
TRANSPORTS |= {"zmq": "zmq", "memory": "memory", "fake": "memory"}

_URL = re.compile(r"(?P<scheme>[a-zA-Z][\w]*)(?:\+(?P<driver>\w+))?://(?P<rest>[^?]*)(?:\?(?P<query>.*))?\Z")


class DatabaseUrl(msgspec.Struct, frozen=True, kw_only=True):
    """``dialect`` is sqlite, postgresql or mysql (MariaDB too). For SQLite ``database`` is the file's path.

    ``driver`` is what the URL named (``pymysql``), for information only. An empty ``host`` is a local socket.
    """

    dialect: str
    driver: str = ""
    user: str = ""
    password: Secret = Secret()
    host: str = ""
    port: int = 0
    database: str = ""
    options: dict[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> DatabaseUrl:
        """Return the parts of e.g. ``mysql+pymysql://nova:pw@db/nova_api?charset=utf8``. ValueError if not one."""
        scheme, driver, rest, options = _split(text)
        dialect = DIALECTS.get(scheme)
        if dialect is None:
            raise ValueError("use sqlite:////path, postgresql://user:password@host/name or mysql+pymysql://...")
        if dialect == "sqlite":
            if rest and not rest.startswith("/"):
                raise ValueError("a SQLite path follows three slashes (four if absolute): sqlite:////var/x.db")
            return cls(dialect=dialect, driver=driver, database=rest[1:], options=options)
        authority, _, database = rest.partition("/")
        user, password, hosts = _authority(authority)
        if not database:
            raise ValueError("the URL names no database: add /name at its end")
        host, port = _host_port(hosts, DEFAULT_PORTS[dialect])
        return cls(
            dialect=dialect,
            driver=driver,
            user=user,
            password=Secret(password),
            host=host,
            port=port,
            database=unquote(database),
            options=options,
        )

    def __str__(self) -> str:
        if self.dialect == "sqlite":
            return f"sqlite:///{self.database}"
        return f"{self.dialect}://{_who(self.user, self.password)}{self.host}:{self.port}/{self.database}"


class TransportUrl(msgspec.Struct, frozen=True, kw_only=True):
    """``kind`` is memory, rabbit or zmq. ``hosts`` are (host, port), the first preferred; ``tls`` for amqps."""

    kind: str
    user: str = ""
    password: Secret = Secret()
    hosts: tuple[tuple[str, int], ...] = ()
    virtual_host: str = ""
    tls: bool = False
    options: dict[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> TransportUrl:
        """Return the parts of e.g. ``rabbit://u:p@a:5672,u:p@b:5672/nova``. ValueError if it is not one.

        The first user and password count for all hosts, as one cluster has one account.
        """
        scheme, _, rest, options = _split(text)
        kind = TRANSPORTS.get(scheme)
        if kind is None:
            raise ValueError("use memory://, rabbit://user:password@host:5672/ or zmq://host:port")
        authority, _, virtual_host = rest.partition("/")
        user = password = ""
        hosts: list[tuple[str, int]] = []
        for part in filter(None, authority.split(",")):
            found_user, found_password, address = _authority(part)
            if not hosts:
                user, password = found_user, found_password
            hosts.append(_host_port(address, DEFAULT_PORTS[kind]))
        if kind != "memory" and not hosts:
            raise ValueError("the URL names no host")
        return cls(
            kind=kind,
            user=user,
            password=Secret(password),
            hosts=tuple(hosts),
            virtual_host=unquote(virtual_host),
            tls=scheme in ("rabbits", "amqps") or options.get("ssl") == "1",
            options=options,
        )

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.kind}://{_who(self.user, self.password)}{hosts}/{self.virtual_host}"


def _split(text: str) -> tuple[str, str, str, dict[str, str]]:
    found = _URL.match(text.strip())
    if found is None:
        raise ValueError("not a URL (scheme://...)")
    options = dict(parse_qsl(found["query"] or "", keep_blank_values=True))
    return found["scheme"].lower(), found["driver"] or "", found["rest"], options


def _authority(text: str) -> tuple[str, str, str]:
    # A password may hold an unescaped @ in old files: the last one counts, as in SQLAlchemy.
    account, at, hosts = text.rpartition("@")
    user, _, password = account.partition(":") if at else ("", "", "")
    return unquote(user), unquote(password), hosts


def _host_port(text: str, default: int) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[(?P<six>[^\]]+)\]|(?P<name>[^:]*))(?::(?P<port>\d{1,5}))?", text)
    if found is None or (port := int(found["port"] or default)) > 65535:
        raise ValueError("host and port are not understood (IPv6 addresses go in brackets)")
    return found["six"] or found["name"] or "", port


def _who(user: str, password: Secret) -> str:
    return f"{user}:{password}@" if password else f"{user}@" if user else ""
