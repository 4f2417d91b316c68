"""/os-quota-sets and /os-quota-class-sets."""

from __future__ import annotations

from typing import Any

from kilonova.api.microversion import schemas as s
from kilonova.api.microversion.fields import Field, In, Out, Resource, query
from kilonova.api.operation import WEIGHED, Call, operation
from kilonova.api.quotas.resources import FILES, GROUPS, NETWORK, Number, defaults, limits, numbers
from kilonova.db.database import Tx
from kilonova.db.queries import quota
from kilonova.http.errors import BadRequest

_RULE = "os_compute_api:os-quota-sets:"
_CLASS_RULE = "os_compute_api:os-quota-class-sets:"
_VALUE = {
    "type": ["integer", "string"], "pattern": "^-?[0-9]+$", "minimum": -1, "maximum": s.MAX_INT, "minLength": 1,
    "maxLength": 12, "format": "number>=-1",
}  # fmt: skip


def _get(name: str) -> Any:
    return lambda values, _: values.get(name, 0)


def _resources() -> list[Field]:
    """Every resource with the versions of the sets and of the classes it is shown and set in."""
    fields = []
    for name in ("instances", "cores", "ram", "metadata_items", "key_pairs"):
        fields.append(Field(name, show=_get(name), of_class=_get(name), put=In(_VALUE), put_class=In(_VALUE)))
    for name in FILES:
        fields.append(
            Field(name, until=56, show=_get(name), of_class=_get(name), put=In(_VALUE), put_class=In(_VALUE))
        )
    for name in NETWORK:
        fields.append(
            Field(
                name, show=Out(_get(name), until=35), of_class=Out(_get(name), until=49),
                put=In(_VALUE, until=35), put_class=In(_VALUE, until=49),
            )
        )  # fmt: skip
    for name in GROUPS:
        fields.append(
            Field(
                name, show=_get(name), of_class=Out(_get(name), since=50), put=In(_VALUE),
                put_class=In(_VALUE),
            )
        )  # fmt: skip
    return fields


_SET = Resource("quota_set", [*_resources(), Field("force", put=In(s.BOOLEAN))])
_CLASS = Resource("quota_class_set", _resources())
_SHOW, _SHOW_CLASS = _SET.view("show"), _CLASS.view("of_class")
_QUERY = query(("user_id", In(s.TEXT)))


def _target(call: Call, what: str) -> tuple[str, str]:
    project, user = call.params["project"], call.one("user_id") or ""
    call.authorize(_RULE + what, {"project_id": project})
    return project, user


def _shown(call: Call, values: dict[str, Any], project: str | None) -> Any:
    shown = _SHOW.render(values, None, call.version)
    return {"quota_set": {"id": project, **shown} if project is not None else shown}


async def _limits(call: Call, project: str, user: str) -> dict[str, int]:
    found = await limits(call, project, user)
    return {**found.project, **(found.user if user else {})}


@operation("GET", "/os-quota-sets/{project}", WEIGHED, query=_QUERY)
async def show(call: Call) -> Any:
    project, user = _target(call, "show")
    return _shown(call, await _limits(call, project, user), project)


@operation("GET", "/os-quota-sets/{project}/detail", WEIGHED, query=_QUERY)
async def detail(call: Call) -> Any:
    project, user = _target(call, "detail")
    found = await numbers(call, project, user)
    values = {name: {"limit": n.limit, "in_use": n.in_use, "reserved": 0} for name, n in found.items()}
    return _shown(call, values, project)


@operation("GET", "/os-quota-sets/{project}/defaults", WEIGHED)
async def show_defaults(call: Call) -> Any:
    project, _ = _target(call, "defaults")
    return _shown(call, dict(await defaults(call)), project)


async def _set(tx: Tx, args: tuple[str, str, str, dict[str, int]]) -> None:
    await quota.set_limits(tx, *args)


@operation("PUT", "/os-quota-sets/{project}", WEIGHED, body=_SET.body("put"), query=_QUERY)
async def update(call: Call) -> Any:
    project, user = _target(call, "update")
    body: dict[str, Any] = call.body["quota_set"]
    values = {name: int(value) for name, value in body.items() if name != "force"}
    if not s.as_bool(body.get("force", False)):
        found = await numbers(call, project, user)
        outer = await limits(call, project)
        for name, value in values.items():
            _check(name, value, found[name], outer.project[name] if user else -1)
    scope = "user" if user else "project"
    await call.services.databases.global_.write(_set, (scope, project, user, values))
    return _shown(call, await _limits(call, project, user), None)


def _check(name: str, value: int, number: Number, most: int) -> None:
    if value != -1 and value < number.in_use:
        raise BadRequest(
            f"Quota limit {value} for {name} must be greater than or equal to already used and reserved "
            f"{number.in_use}."
        )
    if most != -1 and (value == -1 or value > most):
        raise BadRequest(f"Quota limit {value} for {name} must be less than or equal to {most}.")


async def _drop(tx: Tx, args: tuple[str, str]) -> None:
    await quota.drop_limits(tx, *args)


@operation("DELETE", "/os-quota-sets/{project}", WEIGHED, query=_QUERY, success=202)
async def delete(call: Call) -> None:
    await call.services.databases.global_.write(_drop, _target(call, "delete"))


@operation("GET", "/os-quota-class-sets/{name}", _CLASS_RULE + "show")
async def show_class(call: Call) -> Any:
    shown = _SHOW_CLASS.render(dict(await defaults(call)), None, call.version)
    return {"quota_class_set": {"id": call.params["name"], **shown}}


@operation(
    "PUT", "/os-quota-class-sets/{name}", _CLASS_RULE + "update", body=_CLASS.body("put_class"),
)  # fmt: skip
async def update_class(call: Call) -> Any:
    values = {name: int(value) for name, value in call.body["quota_class_set"].items()}
    if call.params["name"] == quota.CLASS:
        await call.services.databases.global_.write(_set, ("class", quota.CLASS, "", values))
    return {"quota_class_set": _SHOW_CLASS.render(dict(await defaults(call)), None, call.version)}


OPERATIONS = (show, detail, show_defaults, update, delete, show_class, update_class)
