"""The little languages in Placement's query strings: resources, required, member_of, in_tree."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kilonova.db.queries.placement_api import ProviderFilter
from kilonova.http.errors import BadRequest
from kilonova.placement.handlers.context import Context
from kilonova.placement.wire import BAD_VALUE, DUPLICATE_KEY, canonical

_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_MOST = 2**31 - 1


def resources(text: str) -> dict[str, int]:
    """``VCPU:1,MEMORY_MB:512``."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, amount = part.partition(":")
        if colon and name and not amount.lstrip("-").isdigit():
            raise BadRequest(
                f"Requested resource {name[:191]} expected positive integer amount. Got: {amount[:20]}.", code=BAD_VALUE
            )
        if not colon or not name:
            raise BadRequest(
                "Badly formed resources parameter. Expected resources query string parameter in form: "
                f"?resources=VCPU:2,MEMORY_MB:1024. Got: {part[:200] if text else 'empty string'}.",
                code=BAD_VALUE,
            )
        if not 0 < int(amount) <= _MOST:
            raise BadRequest(
                f"Requested resource {name[:191]} requires amount >= 1. Got: {amount[:20]}.", code=BAD_VALUE
            )
        found[name] = int(amount)
    return found


def uuid(text: str, parameter: str) -> str:
    if not _UUID.fullmatch(text):
        raise BadRequest(
            f"Invalid query string parameters: Expected '{parameter}' parameter to contain valid UUID(s). "
            f"Got: {text[:100]}",
            code=BAD_VALUE,
        )
    return canonical(text)


def member_of(values: list[str], parameter: str, *, negative: bool) -> tuple[list[list[str]], list[str]]:
    """(any-of lists that all must hold, forbidden ones); `negative`: whether `!` is known (1.32)."""
    wanted: list[list[str]] = []
    forbidden: list[str] = []
    for value in values:
        text, no = value, False
        if text.startswith("!") and not negative:
            raise BadRequest(
                f"Forbidden {parameter} parameters are not supported in the specified microversion", code=BAD_VALUE
            )
        if text.startswith("!"):
            text, no = text[1:], True
        listed = text[3:].split(",") if text.startswith("in:") else [text]
        found = [uuid(each, parameter) for each in listed]
        if no:
            forbidden += found
        else:
            wanted.append(found)
    return wanted, forbidden


def required(
    values: list[str], parameter: str, *, negative: bool, any_of: bool
) -> tuple[list[list[str]], list[str]]:
    """(any-of lists that all must hold, forbidden ones); `negative`: `!T` is known, `any_of`: ``in:`` is."""
    wanted: list[list[str]] = []
    forbidden: list[str] = []
    for value in values:
        if any_of and value.startswith("in:"):
            names = value[3:].split(",")
            if any(not name or name.startswith("!") for name in names):
                raise BadRequest(_bad_traits(value, parameter, negative), code=BAD_VALUE)
            wanted.append(names)
            continue
        for name in value.split(","):
            if negative and name.startswith("!") and len(name) > 1:
                forbidden.append(name[1:])
            elif name and not name.startswith("!"):
                wanted.append([name])
            else:
                raise BadRequest(_bad_traits(value, parameter, negative), code=BAD_VALUE)
    clash = {names[0] for names in wanted if len(names) == 1} & set(forbidden)
    if clash:
        raise BadRequest(
            f"Conflicting required and forbidden traits found in the {parameter} parameter: "
            f"{', '.join(sorted(clash))}.",
            code=BAD_VALUE,
        )
    return wanted, forbidden


def _bad_traits(value: str, parameter: str, negative: bool) -> str:
    return (
        f"Invalid query string parameters: Expected '{parameter}' parameter value of the form: "
        f"HW_CPU_X86_VMX,{'!' if negative else ''}CUSTOM_MAGIC. Got: {value[:200]}"
    )


async def provider_filter(
    context: Context, query: Mapping[str, list[str]], version: int, since: Mapping[str, int]
) -> ProviderFilter:
    """The conditions of a provider list or of candidates. `since`: from which version `member_of` may repeat
    and required traits be negated. Unknown classes and traits are refused."""
    found = ProviderFilter()
    for name, values in query.items():
        if name == "name":
            found.name = values[0]
        elif name == "uuid":
            found.uuid = uuid(values[0], "uuid")
        elif name == "in_tree":
            found.in_tree = uuid(values[0], "in_tree")
        elif name == "resources":
            found.resources = resources(values[0])
        elif name == "member_of":
            if len(values) > 1 and version < since["member_of"]:
                raise BadRequest("Multiple member_of parameters are not supported", code=DUPLICATE_KEY)
            found.member_of, found.not_member_of = member_of(values, "member_of", negative=version >= 32)
        elif name == "required":
            if len(values) > 1 and version < 39:
                raise BadRequest("The query parameter required may be given once only.", code=DUPLICATE_KEY)
            found.required, found.forbidden = required(
                values, "required", negative=version >= since["traits_not"], any_of=version >= 39
            )
    try:
        await context.check_classes(set(found.resources))
    except BadRequest as error:
        raise BadRequest(f"Invalid resource class in resources parameter: {error.message}", code=BAD_VALUE) from None
    traits = {name for names in found.required for name in names} | set(found.forbidden)
    await context.check_traits(traits)
    return found
