"""What a POST /servers asks for, looked up and checked: flavor, image, key, networks, destination."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import Struct

from kilonova.api.flavors.finding import usable_flavor
from kilonova.api.microversion.schemas import as_bool
from kilonova.api.operation import Call
from kilonova.api.servers.placement import Destination, destination
from kilonova.db.queries.flavors import FlavorRow
from kilonova.db.queries.keypairs import GET as GET_KEYPAIR
from kilonova.http.errors import BadRequest, Conflict, Forbidden, Unavailable
from kilonova.image.port import ImageInfo, ImageNotFound, ImageUnavailable
from kilonova.model.guest import ImageRef
from kilonova.model.operation import RequestedNetwork
from kilonova.model.server import Flavor
from kilonova.network.port import (
    NetworkAmbiguous,
    NetworkConflict,
    NetworkError,
    NetworkUnavailable,
)

_GIB = 1 << 30
_NO_DEVICES = "Block Device Mapping is Invalid: only the image of the server itself can be its root disk here."


class Wanted(Struct, frozen=True, kw_only=True):
    """Everything that the servers of one request have in common."""

    body: dict[str, Any]
    flavor: FlavorRow
    image: ImageInfo
    key_name: str | None
    key_data: str | None
    networks: tuple[RequestedNetwork, ...]
    security_groups: list[str]
    destination: Destination
    hints: dict[str, Any]
    least: int
    most: int

    @property
    def image_ref(self) -> ImageRef:
        """As the server keeps it."""
        image = self.image
        return ImageRef(
            id=image.id, size=image.size, checksum=image.hash_value, hash_algo=image.hash_algo,
            disk_format=image.disk_format, properties=image.properties,
        )  # fmt: skip

    @property
    def flavor_copy(self) -> Flavor:
        """As the server keeps it."""
        row = self.flavor
        return Flavor(
            flavor_id=row.flavor_id, name=row.name, vcpus=row.vcpus, memory_mb=row.memory_mb, root_gb=row.root_gb,
            ephemeral_gb=row.ephemeral_gb, swap_mb=row.swap_mb, rxtx_factor=row.rxtx_factor,
            extra_specs=row.extra_specs,
        )  # fmt: skip

    @property
    def resources(self) -> dict[str, int]:
        """Resource class -> amount of one server; extra specs ``resources:X`` have the last word."""
        row = self.flavor
        disk = row.root_gb + row.ephemeral_gb + math.ceil(row.swap_mb / 1024)
        amounts = {"VCPU": row.vcpus, "MEMORY_MB": row.memory_mb, "DISK_GB": disk}
        for key, value in row.extra_specs.items():
            if key.startswith("resources:") and value.isascii() and value.isdigit():
                amounts[key.removeprefix("resources:")] = int(value)
        return {name: amount for name, amount in amounts.items() if amount}


async def understand(call: Call) -> Wanted:
    """Look up and check a request. Raises BadRequest, Forbidden, Conflict, Unavailable."""
    body: dict[str, Any] = call.body["server"]
    least = int(body.get("min_count", 1))
    most = int(body.get("max_count", least if "min_count" in body else 1))
    if least > most:
        raise BadRequest("min_count must be <= max_count")
    image_id = _image_id(body)
    _check_quotas_of_one(call, body)
    where = await destination(call, body)
    if body.get("trusted_image_certificates"):
        call.authorize("os_compute_api:servers:create:trusted_certs")
    flavor = await usable_flavor(call, str(body["flavorRef"]))
    image = await _image(call, image_id)
    _fits(call, flavor, image)
    key_name, key_data = await _key(call, body)
    return Wanted(
        body=body, flavor=flavor, image=image, key_name=key_name, key_data=key_data,
        networks=await _networks(call, body, most), security_groups=_groups(body), destination=where,
        hints=call.body.get("os:scheduler_hints") or call.body.get("OS-SCH-HNT:scheduler_hints") or {},
        least=least, most=most,
    )  # fmt: skip


def _image_id(body: dict[str, Any]) -> str:
    image_id: str = body.get("imageRef") or ""
    if body.get("block_device_mapping") and body.get("block_device_mapping_v2"):
        raise BadRequest("Using different block_device_mapping syntaxes is not allowed in the same request.")
    if body.get("block_device_mapping"):
        raise BadRequest(_NO_DEVICES)
    for device in body.get("block_device_mapping_v2") or ():
        root = device.get("source_type") == "image" and device.get("destination_type") == "local"
        named = device.get("uuid") or device.get("image_id") or ""
        if not root or str(device.get("boot_index")) != "0" or (image_id and named != image_id):
            raise BadRequest(_NO_DEVICES)
        image_id = named
    if not image_id:
        raise BadRequest("Invalid imageRef provided.")
    return image_id


def _check_quotas_of_one(call: Call, body: dict[str, Any]) -> None:
    quotas = call.services.settings.quotas
    items = quotas.get("metadata_items", -1)
    if 0 <= items < len(body.get("metadata", {})):
        raise Forbidden(f"Quota exceeded, too many metadata items. Limit is {items}.")
    files = quotas.get("injected_files", -1)
    if 0 <= files < len(body.get("personality", ())):
        raise Forbidden("Personality file limit exceeded")


async def _image(call: Call, image_id: str) -> ImageInfo:
    try:
        image = await call.services.images.show(image_id.lower(), call.creds)
    except ImageNotFound:
        raise BadRequest("Can not find requested image") from None
    except ImageUnavailable as error:
        raise Unavailable(f"The image service cannot be reached: {error}") from None
    if image.status != "active":
        raise BadRequest(f"Image {image.id} is not active.")
    return image


def _fits(call: Call, flavor: FlavorRow, image: ImageInfo) -> None:
    if flavor.memory_mb < image.min_ram:
        raise BadRequest("Flavor's memory is too small for requested image.")
    if flavor.root_gb == 0:
        if not call.may("os_compute_api:servers:create:zero_disk_flavor"):
            raise Forbidden("Only volume-backed servers are allowed for flavors with zero disk.")
        return
    needed = max(image.size, image.virtual_size or 0)
    if needed > flavor.root_gb * _GIB:
        raise BadRequest(
            "Flavor's disk is too small for requested image. "
            f"Flavor disk is {flavor.root_gb * _GIB} bytes, image is {needed} bytes."
        )
    if flavor.root_gb < image.min_disk:
        raise BadRequest(
            "Flavor's disk is smaller than the minimum size specified in image metadata. "
            f"Flavor disk is {flavor.root_gb * _GIB} bytes, minimum size is {image.min_disk * _GIB} bytes."
        )


async def _key(call: Call, body: dict[str, Any]) -> tuple[str | None, str | None]:
    name = body.get("key_name")
    if name is None:
        return None, None
    row = await call.services.databases.global_.fetch_one(GET_KEYPAIR, {"user_id": call.creds.user_id, "name": name})
    if row is None:
        raise BadRequest("Invalid key_name provided.")
    return name, row[4]


def _groups(body: dict[str, Any]) -> list[str]:
    named = [group["name"] for group in body.get("security_groups", ()) if group.get("name")]
    return list(dict.fromkeys(named)) or ["default"]


async def _networks(call: Call, body: dict[str, Any], count: int) -> tuple[RequestedNetwork, ...]:
    asked = body.get("networks")
    port = call.services.networks
    try:
        if asked == "none":
            return ()
        if asked == "auto":
            return await port.auto_allocate(call.creds)
        if not asked:
            return await port.resolve(call.creds, None, count)
        call.authorize("os_compute_api:servers:create:attach_network")
        return await port.resolve(call.creds, tuple(_requested(each, count) for each in asked), count)
    except NetworkUnavailable as error:
        raise Unavailable(f"The network service cannot be reached: {error}") from None
    except (NetworkAmbiguous, NetworkConflict) as error:
        raise Conflict(str(error)) from None
    except NetworkError as error:
        raise BadRequest(str(error)) from None


def _requested(network: dict[str, Any], count: int) -> RequestedNetwork:
    port_id, network_id = network.get("port"), network.get("uuid")
    if port_id is None and not network_id:
        raise BadRequest("Bad networks format: missing 'uuid' or 'port'")
    if count > 1 and (port_id is not None or network.get("fixed_ip")):
        raise BadRequest("Unable to launch multiple instances with a single configured port ID or address.")
    return RequestedNetwork(
        network_id=(network_id or "").lower(), port_id=port_id.lower() if port_id else None,
        fixed_ip=network.get("fixed_ip"), tag=network.get("tag"),
    )  # fmt: skip


def flag(body: dict[str, Any], name: str) -> bool:
    """A boolean of the body, false when absent."""
    return as_bool(body.get(name, False))


encode = msgspec.json.Encoder().encode
