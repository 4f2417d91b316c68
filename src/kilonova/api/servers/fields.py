"""What a server is on the wire: every field once, with the versions it lives in."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha224
from typing import Any

import msgspec
from msgspec import Raw, Struct

from kilonova.api.links import Base
from kilonova.api.microversion import schemas as s
from kilonova.api.microversion.fields import OMIT, Field, In, Out, Resource
from kilonova.api.moments import plain, zulu
from kilonova.api.servers import request_schemas as r
from kilonova.model.server import Address, Fault, Flavor, Server
from kilonova.model.state_machine import SHOWS_FAULT, SHOWS_PROGRESS, status

ATTRIBUTES, HOST_STATUS, EXTRA_SPECS = "attributes", "host_status", "extra_specs"
"""Flags of the view: what a policy must allow."""

_addresses = msgspec.json.Decoder(tuple[Address, ...]).decode
_names = msgspec.json.Decoder(list[str]).decode
_objects = msgspec.json.Decoder(list[dict[str, Any]]).decode
_flavor = msgspec.json.Decoder(Flavor).decode
_fault = msgspec.json.Decoder(Fault).decode
_anything = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Look(Struct):
    """The context of one answer."""

    base: Base
    admin: bool
    """Sees what only operators should (fault details, hosts)."""
    extra_specs: bool
    host_status: Any = None
    """(host) -> UP, DOWN, MAINTENANCE, UNKNOWN or ""."""
    default_zone: str = "nova"
    images: dict[str, Raw] = {}
    """Made once an answer: many servers have the same image, the same flavor."""
    flavors: dict[str, Raw] = {}


def addresses(server: Server, *, extended: bool) -> dict[str, list[dict[str, Any]]]:
    """Addresses by network name; `extended` adds type and MAC."""
    if server.addresses == "[]":
        return {}
    shown: dict[str, list[dict[str, Any]]] = {}
    for port in _addresses(server.addresses):
        listed = shown.setdefault(port.label, [])
        for kind, pairs in (("fixed", port.ips), ("floating", port.floating)):
            for address, version in pairs:
                entry: dict[str, Any] = {"version": version, "addr": address}
                if extended:
                    entry["OS-EXT-IPS:type"] = kind
                    entry["OS-EXT-IPS-MAC:mac_addr"] = port.mac
                listed.append(entry)
    return shown


@lru_cache(maxsize=4096)
def host_id(project_id: str, host: str) -> str:
    """A host's name as tenants see it: the same for one project, telling nothing across projects."""
    return sha224((project_id + host).encode()).hexdigest()


def _flavor_link(server: Server, look: Look) -> Raw:
    shown = look.flavors.get(server.flavor_id)
    if shown is None:
        links = look.base.bookmarks("flavors", server.flavor_id)
        shown = look.flavors[server.flavor_id] = Raw(_encode({"id": server.flavor_id, "links": links}))
    return shown


@lru_cache(maxsize=512)
def _embedded(text: str, specs: bool) -> Raw:
    flavor = _flavor(text)
    shown: dict[str, Any] = {
        "vcpus": flavor.vcpus, "ram": flavor.memory_mb, "disk": flavor.root_gb, "ephemeral": flavor.ephemeral_gb,
        "swap": flavor.swap_mb, "original_name": flavor.name,
    }  # fmt: skip
    if specs:
        shown["extra_specs"] = flavor.extra_specs
    return Raw(_encode(shown))


def _image(server: Server, look: Look) -> Any:
    if not server.image_id:
        return ""
    shown = look.images.get(server.image_id)
    if shown is None:
        links = look.base.bookmarks("images", server.image_id)
        shown = look.images[server.image_id] = Raw(_encode({"id": server.image_id, "links": links}))
    return shown


def _image_with_properties(server: Server, look: Look) -> Any:
    if not server.image_id:
        return ""
    shown = look.images.get(server.image)
    if shown is None:
        made = {
            "id": server.image_id, "links": look.base.bookmarks("images", server.image_id),
            "properties": _anything(server.image).get("properties", {}),
        }  # fmt: skip
        shown = look.images[server.image] = Raw(_encode(made))
    return shown


def _fault_shown(server: Server, look: Look) -> Any:
    if server.fault is None or status(server.vm_state, server.task_state) not in SHOWS_FAULT:
        return OMIT
    fault = _fault(server.fault)
    shown = {"code": fault.code, "created": zulu(fault.created), "message": fault.message}
    details = "\n".join(filter(None, (fault.details, fault.admin_details if look.admin else "")))
    if details and (look.admin or fault.code != 500 or fault.details):
        shown["details"] = details
    return shown


def _progress(server: Server, look: Look) -> Any:
    return server.progress if status(server.vm_state, server.task_state) in SHOWS_PROGRESS else OMIT


def _groups(server: Server, look: Look) -> Any:
    names = _names(server.security_groups)
    return [{"name": name} for name in names] if names else OMIT


def _volumes(server: Server, look: Look) -> Any:
    if server.volumes == "[]":
        return []
    return [{"id": each.get("id", "")} for each in _objects(server.volumes)]


def _volumes_with_deletion(server: Server, look: Look) -> Any:
    if server.volumes == "[]":
        return []
    return [
        {"id": each.get("id", ""), "delete_on_termination": bool(each.get("delete_on_termination"))}
        for each in _objects(server.volumes)
    ]


def _extra(name: str) -> Any:
    def get(server: Server, look: Look) -> Any:
        return None if server.extra == "{}" else _anything(server.extra).get(name)

    return get


def _image_property(name: str) -> Any:
    def get(server: Server, look: Look) -> Any:
        return _anything(server.image).get("properties", {}).get(name, "") if server.image_id else ""

    return get


def _zone(server: Server, look: Look) -> str:
    if server.availability_zone:
        return server.availability_zone
    return look.default_zone if server.host else (server.pinned_zone or "")


def _groups_of_servers(server: Server, look: Look) -> Any:
    group = _anything(server.extra).get("server_group") if server.extra != "{}" else None
    return [group] if group else []


def _host_status(server: Server, look: Look) -> Any:
    return look.host_status(server.host) if look.host_status is not None else OMIT


def _hints(server: Server, look: Look) -> Any:
    return Raw(server.hints)


def _shown(get: Any, *, until: int | None = None, since: int | None = None, **how: Any) -> dict[str, Any]:
    """In every view of a whole server; `update` answers as `show` from 2.75 on."""
    lasting = Out(get, since=since, until=until, **how)
    late = Out(get, since=max(75, since or 1), until=until, **how)
    made: dict[str, Any] = {"show": lasting, "detail": lasting}
    if until is None or until >= 75:
        made["update"] = late
    return made


def _always(get: Any, **span: Any) -> dict[str, Any]:
    """In every view of a whole server, at every version."""
    rule = Out(get, **span)
    return {"show": rule, "detail": rule, "update": rule}


SERVER = Resource(
    "server",
    [
        Field("id", **_always(lambda v, _: v.uuid), brief=lambda v, _: v.uuid),
        Field(
            "name", **_always(lambda v, _: v.name), brief=lambda v, _: v.name,
            create=In(s.NAME, required=True), update_body=In(s.NAME),
        ),
        Field(
            "links", **_always(lambda v, look: look.base.links("servers", v.uuid)),
            brief=lambda v, look: look.base.links("servers", v.uuid),
        ),
        Field("status", **_always(lambda v, _: status(v.vm_state, v.task_state))),
        Field("tenant_id", **_always(lambda v, _: v.project_id)),
        Field("user_id", **_always(lambda v, _: v.user_id)),
        Field("metadata", **_always(lambda v, _: Raw(v.metadata)), create=In(s.METADATA)),
        Field("hostId", **_always(lambda v, _: host_id(v.project_id, v.host) if v.host else "")),
        Field("image", **_always(_image, until=97)),
        Field("image", since=98, **_always(_image_with_properties)),
        Field("flavor", **_always(_flavor_link, until=46)),
        Field("flavor", since=47, **_always(lambda v, look: _embedded(v.flavor, look.extra_specs))),
        Field("created", **_always(lambda v, _: zulu(v.created_at))),
        Field("updated", **_always(lambda v, _: zulu(v.updated_at))),
        Field(
            "addresses",
            show=lambda v, _: addresses(v, extended=True), detail=lambda v, _: addresses(v, extended=True),
            update=(
                Out(lambda v, _: addresses(v, extended=False), until=74),
                Out(lambda v, _: addresses(v, extended=True), since=75),
            ),
        ),
        Field("accessIPv4", **_always(lambda v, _: v.access_ip_v4), create=In(s.IPV4), update_body=In(s.IPV4)),
        Field("accessIPv6", **_always(lambda v, _: v.access_ip_v6), create=In(s.IPV6), update_body=In(s.IPV6)),
        Field(
            "OS-DCF:diskConfig", **_always(lambda v, _: v.disk_config),
            create=In(s.DISK_CONFIG), update_body=In(s.DISK_CONFIG),
        ),
        Field("progress", **_always(_progress, sometimes=True)),
        Field("fault", **_always(_fault_shown, sometimes=True)),
        Field("OS-EXT-AZ:availability_zone", **_shown(_zone)),
        Field("config_drive", **_shown(lambda v, _: "True" if v.config_drive else ""), create=In(s.BOOLEAN)),
        Field("key_name", **_shown(lambda v, _: v.key_name), create=In(s.NAME)),
        Field("OS-SRV-USG:launched_at", **_shown(lambda v, _: plain(v.launched_at))),
        Field("OS-SRV-USG:terminated_at", **_shown(lambda v, _: plain(v.terminated_at))),
        Field("security_groups", **_shown(_groups, sometimes=True), create=In(r.SECURITY_GROUPS)),
        Field("OS-EXT-STS:task_state", **_shown(lambda v, _: v.task_state)),
        Field("OS-EXT-STS:vm_state", **_shown(lambda v, _: v.vm_state)),
        Field("OS-EXT-STS:power_state", **_shown(lambda v, _: v.power_state)),
        Field("os-extended-volumes:volumes_attached", **_shown(_volumes, until=2)),
        Field("os-extended-volumes:volumes_attached", **_shown(_volumes_with_deletion, since=3)),
        Field("OS-EXT-SRV-ATTR:host", **_shown(lambda v, _: v.host, flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:hypervisor_hostname", **_shown(lambda v, _: v.node, flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:instance_name", **_shown(lambda v, _: f"instance-{v.number:08x}", flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:reservation_id", **_shown(lambda v, _: v.reservation_id, since=3, flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:launch_index", **_shown(lambda v, _: v.launch_index, since=3, flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:kernel_id", **_shown(_image_property("kernel_id"), since=3, flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:ramdisk_id", **_shown(_image_property("ramdisk_id"), since=3, flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:root_device_name", **_shown(lambda v, _: v.root_device_name, since=3, flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:user_data", **_shown(lambda v, _: v.user_data, since=3, flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:hostname", **_shown(lambda v, _: v.hostname, since=3, until=89, flag=ATTRIBUTES)),
        Field("OS-EXT-SRV-ATTR:hostname", **_shown(lambda v, _: v.hostname, since=90)),
        Field(
            "hostname", since=90,
            create=(In(s.HOSTNAME, until=93), In(s.FQDN, since=94)),
            update_body=(In(s.HOSTNAME, until=93), In(s.FQDN, since=94)),
        ),
        Field("locked", since=9, **_always(lambda v, _: v.locked_by is not None)),
        Field("locked_reason", since=73, **_always(lambda v, _: v.locked_reason)),
        Field("host_status", since=16, **_shown(_host_status, flag=HOST_STATUS, sometimes=True)),
        Field(
            "description", since=19, **_always(lambda v, _: v.description),
            create=In(s.DESCRIPTION), update_body=In(s.DESCRIPTION),
        ),
        Field("tags", since=26, **_always(lambda v, _: Raw(v.tags)), create=In(s.TAGS, since=52)),
        Field(
            "trusted_image_certificates", since=63, **_always(_extra("trusted_image_certificates")),
            create=In(r.TRUSTED_CERTIFICATES),
        ),
        Field("server_groups", since=71, show=_groups_of_servers, update=_groups_of_servers),
        Field(
            "pinned_availability_zone", **_shown(lambda v, _: v.pinned_zone, since=96),
            update_body=In(s.NAME_OR_NULL, since=104),
        ),
        Field("scheduler_hints", **_shown(_hints, since=100)),
        # in requests only
        Field("flavorRef", create=In(r.FLAVOR_REF, required=True)),
        Field("imageRef", create=In(r.IMAGE_REF)),
        Field("adminPass", create=In(s.TEXT)),
        Field("availability_zone", create=In(s.NAME)),
        Field("user_data", create=In(r.USER_DATA)),
        Field("min_count", create=In(s.number(1))),
        Field("max_count", create=In(s.number(1))),
        Field("return_reservation_id", create=In(s.BOOLEAN)),
        Field(
            "networks",
            create=(
                In(r.networks(tag=False), until=31),
                In(r.networks(tag=True), since=32, until=36),
                In(r.networks_or_word(tag=False), since=37, until=41, required=True),
                In(r.networks_or_word(tag=True), since=42, required=True),
            ),
        ),
        Field("personality", until=56, create=In(r.PERSONALITY)),
        Field("block_device_mapping", create=In(r.LEGACY_DEVICES)),
        Field(
            "block_device_mapping_v2",
            create=(
                In(r.devices(), until=31),
                In(r.devices(tag=True), since=32, until=32),
                In(r.devices(), since=33, until=41),
                In(r.devices(tag=True), since=42, until=66),
                In(r.devices(tag=True, volume_type=True), since=67),
            ),
        ),
        Field("host", since=74, create=In(s.FQDN)),
        Field("hypervisor_hostname", since=74, create=In(s.FQDN)),
    ],
)  # fmt: skip
