"""build: ports, guest, ACTIVE; on another host of the cell if the chosen one refuses."""

from __future__ import annotations

from msgspec.structs import replace

from kilonova.conductor.effects.claim import ClaimArgs, ReleaseArgs, hold, reclaim, release
from kilonova.conductor.effects.ports import without_ports
from kilonova.conductor.errors import Refused
from kilonova.conductor.story import NOW, Done, Op, Undo, done, encode, story
from kilonova.model.command import DestroyArgs, Method, SpawnArgs
from kilonova.model.guest import GuestFact, Nic
from kilonova.model.operation import BuildInputs
from kilonova.model.server import Address
from kilonova.network.port import PortRequest, PortsOf

EVENT = "compute__do_build_and_run_instance"
_NOT_THE_HOSTS_FAULT = frozenset({"image_invalid", "image_gone", "no_addresses"})


def _nic(address: Address) -> Nic:
    return Nic(
        port_id=address.port_id, network_id=address.network_id, mac=address.mac,
        addresses=tuple(ip for ip, _ in address.ips), mtu=address.mtu, kind=address.kind, tag=address.tag,
    )  # fmt: skip


@story("build", BuildInputs, on_undone="error", after_undone=without_ports)
async def build(op: Op, inputs: BuildInputs) -> Done:
    server, spec = inputs.server, inputs.spec
    free_claim = Undo("db:global", release.name, ReleaseArgs(server=server), "allocation")
    no_ports = Undo("network", "ensure_no_ports", PortsOf(server=server), "ports")
    await op.effect(hold, ReleaseArgs(server=server), undo=free_claim, event=EVENT)
    choices = ((inputs.host, inputs.node, inputs.provider), *inputs.alternates)
    for n, (host, node, provider) in enumerate(choices):
        if n:
            claimed = await op.effect(
                reclaim,
                ClaimArgs(
                    places=((server, provider),), resources=inputs.resources, project_id=op.project_id,
                    user_id=op.user_id,
                ),
                database="global", item=host,
            )  # fmt: skip
            if not claimed.ok:
                continue
            await op.show(host=host, node=node)
        if inputs.networks:
            request = PortRequest(
                server=server, project_id=op.project_id, host=host, networks=inputs.networks,
                port_ids=tuple(op.uuid(f"port/{i}") for i in range(len(inputs.networks))), hostname=spec.hostname,
            )  # fmt: skip
            addresses = await op.call(
                "ports", "network", "ensure_ports", request, tuple[Address, ...], item=host, undo=no_ports,
                task_state="networking",
            )  # fmt: skip
            await op.show(addresses=encode(addresses).decode())
            spec = replace(spec, nics=tuple(_nic(a) for a in addresses))
        gone = Undo(
            f"host:{host}", Method.DESTROY, DestroyArgs(), "guest", keeps=(no_ports, free_claim),
            holds=("hold", "ports"),
        )
        try:
            fact = await op.call(
                "spawn", f"host:{host}", Method.SPAWN, SpawnArgs(spec=spec), GuestFact, item=host, undo=gone,
                task_state="spawning", budget_s=600,
            )  # fmt: skip
        except Refused as error:
            if error.code in _NOT_THE_HOSTS_FAULT or n + 1 == len(choices):
                raise
            cleared = await op.ensure_absent(
                "clear", f"host:{host}", Method.DESTROY, DestroyArgs(), resource="guest", item=host
            )
            if not cleared:
                raise  # its claim and addresses must stay with that host until the debt is paid
            continue
        return done(vm_state="active", power_state=int(fact.power_state), launched_at=NOW, progress=0)
    raise Refused("No valid host was found. Every chosen host refused the server.", "no_host")
