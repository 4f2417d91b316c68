"""POST /servers: one transaction of the global database, then a wake (contracts: 2).

What is committed together: the answer under its Idempotency-Key, the servers' index rows, the `schedule`
operation, and last the quota counters.
"""

from __future__ import annotations

import secrets
import string
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from kilonova.api.microversion.version import LATEST
from kilonova.api.operation import Call, Span, operation
from kilonova.api.servers import request_schemas as r
from kilonova.api.servers.fields import SERVER
from kilonova.api.servers.naming import address, host_name, numbered
from kilonova.api.servers.wanted import Wanted, encode, flag, understand
from kilonova.db.database import Tx
from kilonova.db.queries import idempotency, quota, server_index
from kilonova.db.queries.operations import open_operation
from kilonova.http.errors import Conflict, Forbidden, Unprocessable
from kilonova.http.message import Response, json_response
from kilonova.model.operation import NewOperation, ScheduleInputs
from kilonova.model.server import Server

_BODY = SERVER.body(
    "create", siblings={"os:scheduler_hints": r.HINTS, "OS-SCH-HNT:scheduler_hints": r.HINTS}
)
_LETTERS = string.ascii_letters + string.digits
_decode = msgspec.json.Decoder().decode


class _New(Struct, frozen=True, kw_only=True):
    """What the transaction writes."""

    servers: list[Server]
    schedule: NewOperation
    key: idempotency.Key | None
    answer: idempotency.Answer | None
    quotas: dict[str, int]
    amounts: dict[str, int]
    now: int


async def _commit(tx: Tx, new: _New) -> None:
    if new.key is not None and new.answer is not None:
        await idempotency.keep(tx, new.key, new.answer, new.now)
    for server in new.servers:
        await server_index.insert(tx, server)
    await open_operation(tx, new.schedule)
    first = new.servers[0]
    await quota.take(tx, first.project_id, first.user_id, new.amounts, new.quotas)


async def create(call: Call) -> Response:
    """Answer 202 as soon as the intent to build is durable."""
    services = call.services
    key, body_hash = await _idempotency(call)
    if key is not None:
        replayed = await _replay(call, key, body_hash)
        if replayed is not None:
            return replayed
    wanted = await understand(call)
    body = wanted.body
    password = body.get("adminPass") or _password(services.settings.password_length)
    sealed = services.seal(password)
    count = wanted.most
    while True:
        servers, schedule = _build(call, wanted, count, sealed)
        shown, headers = _answer(call, wanted, servers)
        answer = None
        if key is not None:
            answer = idempotency.Answer(body_hash, 202, encode(shown).decode(), encode(headers).decode())
        flavor = wanted.flavor
        new = _New(
            servers=servers, schedule=schedule, key=key, answer=answer, quotas=dict(services.settings.quotas),
            amounts={"instances": count, "cores": flavor.vcpus * count, "ram": flavor.memory_mb * count},
            now=schedule.created_at,
        )  # fmt: skip
        try:
            await services.databases.global_.write(_commit, new)
        except quota.OverQuota as error:
            if count > wanted.least:
                count = wanted.least
                continue
            raise Forbidden(error.message) from None
        except idempotency.Taken:
            assert key is not None
            replayed = await _replay(call, key, body_hash)
            if replayed is not None:
                return replayed
            raise Conflict("A request with this Idempotency-Key is being worked on.") from None
        break
    services.wake("operation", schedule.id)
    if "server" in shown and services.settings.show_password:
        shown["server"]["adminPass"] = password
    return json_response(shown, 202, headers)


def _build(call: Call, wanted: Wanted, count: int, sealed: str | None) -> tuple[list[Server], NewOperation]:
    services, body, creds = call.services, wanted.body, call.creds
    now = services.clock()
    operation_id = services.new_id()
    reservation = f"r-{services.random(5).hex()[:8]}"
    row, where = wanted.flavor, wanted.destination
    image, flavor = encode(wanted.image_ref).decode(), encode(wanted.flavor_copy).decode()
    extra = {"trusted_image_certificates": body["trusted_image_certificates"]} if body.get(
        "trusted_image_certificates"
    ) else {}
    drive = services.settings.force_config_drive or flag(body, "config_drive")
    servers = []
    for index in range(count):
        uuid = services.new_id()
        name = numbered(body["name"].strip(), index, count)
        hostname = body.get("hostname")
        hostname = numbered(hostname, index, count, 63) if hostname else host_name(name, uuid)
        servers.append(
            Server(
                uuid=uuid, project_id=call.project_id, user_id=creds.user_id, name=name, hostname=hostname,
                description=body.get("description", name if call.has("described_by_name") else None),
                availability_zone=None, pinned_zone=where.zone, image_id=wanted.image.id, image=image, flavor=flavor,
                flavor_id=row.flavor_id, vcpus=row.vcpus, memory_mb=row.memory_mb, root_gb=row.root_gb,
                ephemeral_gb=row.ephemeral_gb, key_name=wanted.key_name, key_data=wanted.key_data,
                user_data=body.get("user_data"), config_drive=int(drive),
                metadata=encode(body.get("metadata", {})).decode(),
                tags=encode(sorted(set(body.get("tags", ())))).decode(),
                security_groups=encode(wanted.security_groups).decode(), hints=encode(wanted.hints).decode(),
                access_ip_v4=address(body.get("accessIPv4", "")), access_ip_v6=address(body.get("accessIPv6", "")),
                disk_config=body.get("OS-DCF:diskConfig", "MANUAL"), reservation_id=reservation, launch_index=index,
                extra=encode(extra).decode(), operation_id=operation_id, next_number=2, created_at=now, updated_at=now,
            )
        )  # fmt: skip
    inputs = ScheduleInputs(
        servers=tuple(server.uuid for server in servers), networks=wanted.networks, zone=where.zone, host=where.host,
        node=where.node, force=where.force, extra_specs=row.extra_specs, image_properties=wanted.image.properties,
        resources=wanted.resources, hints=_listed(wanted.hints), sealed_password=sealed,
    )  # fmt: skip
    # One server's lane is its own; several have one of their own, and are taken from it by their index rows.
    target = servers[0].uuid if count == 1 else services.new_id()
    return servers, NewOperation(
        id=operation_id, story="schedule", target=target, number=1, inputs=encode(inputs),
        request_id=call.request.request_id, user_id=creds.user_id, project_id=call.project_id, created_at=now,
    )  # fmt: skip


def _listed(hints: dict[str, Any]) -> dict[str, list[str]]:
    """Hints with every value a list of texts."""
    made: dict[str, list[str]] = {}
    for name, value in hints.items():
        values = value if isinstance(value, list) else [value]
        made[name] = [each if isinstance(each, str) else encode(each).decode() for each in values]
    return made


def _answer(call: Call, wanted: Wanted, servers: list[Server]) -> tuple[dict[str, Any], dict[str, str]]:
    if flag(wanted.body, "return_reservation_id"):
        return {"reservation_id": servers[0].reservation_id}, {}
    first, base = servers[0], call.request.state["base"]
    links = base.links("servers", first.uuid)
    shown = {
        "id": first.uuid,
        "links": links,
        "OS-DCF:diskConfig": first.disk_config,
        "security_groups": wanted.body.get("security_groups", [{"name": "default"}]),
    }
    return {"server": shown}, {"location": links[0]["href"]}


def _password(length: int) -> str:
    made = ""
    while len(made) < length:
        # 248 is the largest multiple of 62 in a byte: every letter is as likely as any other.
        made += "".join(_LETTERS[byte % 62] for byte in secrets.token_bytes(length + 4) if byte < 248)
    return made[:length]


async def _idempotency(call: Call) -> tuple[idempotency.Key | None, str]:
    given = call.request.headers.get("idempotency-key")
    if not given:
        return None, ""
    digest = sha256(given.encode("latin-1", "replace")).hexdigest()
    body_hash = sha256(await call.request.body()).hexdigest()
    return idempotency.Key(call.project_id, call.creds.user_id, digest), body_hash


async def _replay(call: Call, key: idempotency.Key, body_hash: str) -> Response | None:
    row = await call.services.databases.global_.fetch_one(
        idempotency.FIND, idempotency.params(key, call.services.clock())
    )
    if row is None:
        return None
    answer = idempotency.Answer(*row)
    if answer.body_hash != body_hash:
        raise Unprocessable("This Idempotency-Key was used with another body.")
    if not answer.status:
        raise Conflict("A request with this Idempotency-Key is being worked on.")
    headers = {**_decode(answer.headers), "idempotent-replayed": "true"}
    return Response(answer.status, answer.body.encode(), headers, media="application/json")


def _declare(path: str, until: int) -> Any:
    return operation(
        "POST", path, "os_compute_api:servers:create", body=_BODY, success=202, until=until,
        facets={"described_by_name": Span(until=18)},
    )(create)  # fmt: skip


OPERATIONS = (_declare("/servers", LATEST), _declare("/os-volumes_boot", 102))
