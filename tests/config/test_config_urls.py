"""Database and queue URLs taken apart, and secrets that stay hidden."""

import pickle

import pytest

from kilonova.config import DatabaseUrl, Secret, TransportUrl


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sqlite:////var/lib/k.db", ("sqlite", "", "", "", 0, "/var/lib/k.db")),
        ("sqlite:///k.db", ("sqlite", "", "", "", 0, "k.db")),
        ("sqlite://", ("sqlite", "", "", "", 0, "")),
        ("postgresql://u:p@db/nova", ("postgresql", "u", "p", "db", 5432, "nova")),
        ("postgresql+asyncpg://u@[::1]:6432/nova", ("postgresql", "u", "", "::1", 6432, "nova")),
        ("postgresql:///nova?host=/run/pg", ("postgresql", "", "", "", 5432, "nova")),
        ("mysql+pymysql://n:a%40b@h/c?charset=utf8", ("mysql", "n", "a@b", "h", 3306, "c")),
        ("mariadb://n:a@b@h:1/c", ("mysql", "n", "a@b", "h", 1, "c")),
    ],
)
def test_database(text, expected):
    url = DatabaseUrl.parse(text)
    got = (url.dialect, url.user, url.password.reveal(), url.host, url.port, url.database)
    assert got == expected


@pytest.mark.parametrize("text", ["", "k.db", "sqlite://k.db", "oracle://h/x", "mysql://h", "mysql://h:99999/x"])
def test_no_database(text):
    with pytest.raises(ValueError, match=r"\w"):
        DatabaseUrl.parse(text)


def test_transport():
    url = TransportUrl.parse("rabbit://u:p%2F@a,u:p@[fe80::1]:5673/vh?ssl=1")
    assert (url.kind, url.user, url.password.reveal()) == ("rabbit", "u", "p/")
    assert url.hosts == (("a", 5672), ("fe80::1", 5673))
    assert (url.virtual_host, url.tls) == ("vh", True)
    assert TransportUrl.parse("amqps://h/").tls
    assert TransportUrl.parse("memory://").hosts == ()
    assert TransportUrl.parse("zmq://0.0.0.0:9501").hosts == (("0.0.0.0", 9501),)


@pytest.mark.parametrize("text", ["rabbit://", "kafka://h", "h:5672", "rabbit://h:x/"])
def test_no_transport(text):
    with pytest.raises(ValueError, match=r"\w"):
        TransportUrl.parse(text)


def test_a_secret_shows_itself_nowhere():
    secret = Secret("hush")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", "%s" % secret]  # noqa: UP031 - a way to leak
    url = DatabaseUrl.parse("mysql://u:hush@h/d")
    assert "hush" not in " ".join([*shown, repr(url), str(url)])
    assert secret.reveal() == "hush"
    assert secret and not Secret()
    assert secret == Secret("hush") != Secret("other")
    with pytest.raises(TypeError):
        pickle.dumps(secret)
