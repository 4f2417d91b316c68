"""/os-keypairs: a user's public keys; private halves are made below 2.92 and never kept."""

from __future__ import annotations

from typing import Any

from kilonova.api.keys import InvalidKey, fingerprint, generate
from kilonova.api.microversion import schemas as s
from kilonova.api.microversion.fields import OMIT, Field, In, Out, Resource, query
from kilonova.api.moments import plain
from kilonova.api.operation import WEIGHED, Call, Span, operation
from kilonova.api.paging import page_size
from kilonova.db.database import Tx
from kilonova.db.queries import keypairs as rows
from kilonova.db.queries.keypairs import KeyPair, keypair
from kilonova.db.queries.quota import LIMITS, resolve
from kilonova.http.errors import BadRequest, Conflict, Forbidden, NotFound

_NAME = {"allOf": [s.NAME, {"type": "string", "pattern": r"^[_\- a-zA-Z0-9]+$"}], "maxLength": 191}
_NAME_92 = {"allOf": [s.NAME, {"type": "string", "pattern": r"^[_\-\@\. a-zA-Z0-9]+$"}], "maxLength": 191}
_MOST_KEY = 16384


class _Shown:
    """A key as shown, with its private half where it was just made."""

    __slots__ = ("key", "private")

    def __init__(self, key: KeyPair, private: str | None = None) -> None:
        self.key, self.private = key, private


def _in(*views: str, get: Any, **span: Any) -> dict[str, Any]:
    return dict.fromkeys(views, Out(get, **span))


def _private(v: _Shown, _: Any) -> Any:
    return OMIT if v.private is None else v.private


_ALL = ("index", "create", "show")
KEYPAIR = Resource(
    "keypair",
    [
        Field(
            "name", **_in(*_ALL, get=lambda v, _: v.key.name),
            new=(In(_NAME, until=91, required=True), In(_NAME_92, since=92, required=True)),
        ),
        Field(
            "public_key", **_in(*_ALL, get=lambda v, _: v.key.public_key),
            new=(In(s.TEXT, until=91), In(s.TEXT, since=92, required=True)),
        ),
        Field("fingerprint", **_in(*_ALL, get=lambda v, _: v.key.fingerprint)),
        Field(
            "type", since=2, **_in(*_ALL, get=lambda v, _: v.key.type),
            new=In({"type": "string", "enum": ["ssh", "x509"]}),
        ),
        Field("user_id", **_in("create", "show", get=lambda v, _: v.key.user_id)),
        Field("user_id", since=10, new=In({"type": "string", "minLength": 1, "maxLength": 36})),
        Field("private_key", until=91, create=Out(_private, sometimes=True)),
        Field("created_at", show=lambda v, _: plain(v.key.created_at)),
        Field("id", show=lambda v, _: v.key.created_at % 0x7FFFFFFF),
        Field("deleted", show=lambda v, _: False),
        Field("deleted_at", show=lambda v, _: None),
        Field("updated_at", show=lambda v, _: None),
    ],
)  # fmt: skip
_INDEX, _CREATE, _SHOW = (KEYPAIR.view(name) for name in _ALL)
_NEW = KEYPAIR.body("new", wrapper="keypair")
_OF_USER = query(("user_id", In(s.TEXT, since=10)))
_PAGE = query(
    ("user_id", In(s.TEXT, since=10)), ("limit", In(s.QUERY_COUNT, since=35)), ("marker", In(s.TEXT, since=35))
)
_BY_USER = {"by_user": Span(10)}


def _user(call: Call, what: str) -> str:
    """Whose keys: the caller's, or from 2.10 those of the user named, by whom policy lets."""
    user = (call.one("user_id") if call.has("by_user") else None) or call.creds.user_id
    call.authorize(f"os_compute_api:os-keypairs:{what}", {"user_id": user})
    return user


@operation("GET", "/os-keypairs", WEIGHED, query=_PAGE, facets={**_BY_USER, "pages": Span(35)})
async def index(call: Call) -> Any:
    user = _user(call, "index")
    whole = call.services.databases.global_
    paged = call.has("pages")
    marker = (call.one("marker") if paged else None) or ""
    if marker and await whole.fetch_one(rows.GET, {"user_id": user, "name": marker}) is None:
        raise BadRequest(f"Marker {marker[:100]} could not be found.")
    limit = page_size(call.one("limit") if paged else None, call.services.settings.max_limit)
    found = await whole.fetch(rows.PAGE, {"user_id": user, "marker": marker, "limit": limit})
    keys = [keypair(row) for row in found]
    shown: dict[str, Any] = {
        "keypairs": [{"keypair": _INDEX.render(_Shown(key), None, call.version)} for key in keys]
    }
    if paged and keys and len(keys) == limit:
        base = call.request.state["base"]
        shown["keypairs_links"] = base.next_page("/os-keypairs", call.request.query, keys[-1].name)
    return shown


@operation("GET", "/os-keypairs/{name}", WEIGHED, query=_OF_USER, facets=_BY_USER)
async def show(call: Call) -> Any:
    user = _user(call, "show")
    row = await call.services.databases.global_.fetch_one(rows.GET, {"user_id": user, "name": call.params["name"]})
    if row is None:
        raise _missing(call, user)
    return {"keypair": _SHOW.render(_Shown(keypair(row)), None, call.version)}


async def _insert(tx: Tx, args: tuple[KeyPair, int]) -> None:
    await rows.insert(tx, *args)


@operation("POST", "/os-keypairs", WEIGHED, body=_NEW, success={1: 200, 2: 201})
async def create(call: Call) -> Any:
    body: dict[str, str] = call.body["keypair"]
    user = body.get("user_id") or call.creds.user_id
    call.authorize("os_compute_api:os-keypairs:create", {"user_id": user})
    name, kind = body["name"].strip(), body.get("type", "ssh")
    private = None
    if "public_key" in body:
        public = body["public_key"].strip()
        if len(public) > _MOST_KEY:
            raise BadRequest(f"Keypair data is invalid: at most {_MOST_KEY} characters are taken")
    else:
        public, private = await generate(kind, user)
    try:
        digest = fingerprint(kind, public)
    except InvalidKey as error:
        raise BadRequest(f"Keypair data is invalid: {error}") from None
    key = KeyPair(
        user_id=user, name=name, type=kind, fingerprint=digest, public_key=public, created_at=call.services.clock()
    )
    whole = call.services.databases.global_
    limits = await whole.fetch(LIMITS, {"project": call.project_id, "user": user})
    most = resolve([(row[0], row[1], row[2]) for row in limits], call.services.settings.quotas).project["key_pairs"]
    try:
        await whole.write(_insert, (key, most))
    except rows.NameTaken:
        raise Conflict(f"Key pair '{name}' already exists.") from None
    except rows.TooMany:
        raise Forbidden("Quota exceeded, too many key pairs.") from None
    return {"keypair": _CREATE.render(_Shown(key, private), None, call.version)}


async def _delete(tx: Tx, args: tuple[str, str]) -> bool:
    return await rows.delete(tx, *args)


@operation("DELETE", "/os-keypairs/{name}", WEIGHED, query=_OF_USER, facets=_BY_USER, success={1: 202, 2: 204})
async def delete(call: Call) -> None:
    user = _user(call, "delete")
    if not await call.services.databases.global_.write(_delete, (user, call.params["name"])):
        raise _missing(call, user)


def _missing(call: Call, user: str) -> NotFound:
    return NotFound(f"Keypair {call.params['name'][:255]} not found for user {user}")


OPERATIONS = (index, show, create, delete)
