"""What is done to one domain: blocking functions over a virConnect, for the pool.

Each names an end state, so it may run again after any crash, and each touches a domain only when our mark is
on it: one with the same uuid that somebody else made is refused, never changed.
"""

from __future__ import annotations

from typing import Any

from kilonova.compute.virt.driver import Refused
from kilonova.compute.virt.libvirt.domain import Mark, read_mark
from kilonova.compute.virt.mark import NAMESPACE
from kilonova.model.guest import GuestFact
from kilonova.model.power import PowerState

# virDomainState -> ours. BLOCKED runs; SHUTDOWN is on its way to SHUTOFF.
_STATES = {
    0: PowerState.NOSTATE,
    1: PowerState.RUNNING,
    2: PowerState.RUNNING,
    3: PowerState.PAUSED,
    4: PowerState.SHUTDOWN,
    5: PowerState.SHUTDOWN,
    6: PowerState.CRASHED,
    7: PowerState.SUSPENDED,
}
_SHUTOFF_NOTES = {3: "crashed", 6: "failed to start"}
_PAUSED_NOTES = {5: "I/O error on a disk", 7: "shutting down", 9: "crashed"}


def find(conn: Any, uuid: str) -> Any:
    """The domain, or None."""
    import libvirt

    try:
        return conn.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def mark_of(domain: Any) -> Mark | None:
    """None if the domain is not ours or is just going."""
    import libvirt

    try:
        return read_mark(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE))
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
            return None
        raise


def find_ours(conn: Any, uuid: str, mark: Mark) -> Any:
    """The domain with our mark, or None; Refused if it is a stranger's."""
    domain = find(conn, uuid)
    if domain is not None and mark_of(domain) != mark:
        raise Refused("hypervisor", f"a domain {uuid} is there that this host's cloud did not make")
    return domain


def fact(domain: Any) -> GuestFact:
    state, reason = domain.state()
    note = _SHUTOFF_NOTES.get(reason, "") if state == 5 else _PAUSED_NOTES.get(reason, "") if state == 3 else ""
    return GuestFact(uuid=domain.UUIDString(), power_state=_STATES.get(state, PowerState.NOSTATE), note=note)


def list_ours(conn: Any, mark: Mark) -> list[GuestFact]:
    import libvirt

    facts = []
    for domain in conn.listAllDomains():
        try:
            if mark_of(domain) == mark:
                facts.append(fact(domain))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    return facts


def ensure_defined(conn: Any, uuid: str, xml: str, mark: Mark) -> Any:
    """Defined as in `xml`; a running guest keeps the devices it runs with.

    Where another cloud's guest on this machine has the name already, ours gets its id appended.
    """
    domain = find_ours(conn, uuid, mark)
    if domain is None or not domain.isActive():
        name = xml.partition("<name>")[2].partition("</name>")[0]
        if domain is not None and domain.name().startswith(name):
            xml = _renamed(xml, domain.name())
        elif _is_taken(conn, name, uuid):
            xml = _renamed(xml, f"{name}-{uuid[:8]}")
        domain = conn.defineXML(xml)
    return domain


def _is_taken(conn: Any, name: str, uuid: str) -> bool:
    import libvirt

    try:
        return bool(conn.lookupByName(name).UUIDString() != uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return False
        raise


def _renamed(xml: str, name: str) -> str:
    head, _, rest = xml.partition("<name>")
    return f"{head}<name>{name}</name>{rest.partition('</name>')[2]}"


def ensure_running(domain: Any) -> GuestFact:
    import libvirt

    state = domain.state()[0]
    try:
        if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED):
            if state == libvirt.VIR_DOMAIN_PMSUSPENDED:
                domain.pMWakeup()
            else:
                domain.resume()
        elif not domain.isActive():
            domain.create()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or not domain.isActive():
            raise
    return fact(domain)


def ensure_off(domain: Any) -> None:
    """Pulls the plug."""
    import libvirt

    try:
        if domain.isActive():
            domain.destroy()
    except libvirt.libvirtError as error:
        gone = (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN)
        if error.get_error_code() not in gone:
            raise


def press_power(domain: Any) -> bool:
    """Ask the guest to power off. False if it can't be asked."""
    import libvirt

    try:
        if not domain.isActive():
            return False
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except libvirt.libvirtError:
        return False
    return True


def remove(domain: Any) -> None:
    """Off and undefined, with all that libvirt keeps about it."""
    import libvirt

    ensure_off(domain)
    try:
        domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )
    except libvirt.libvirtError as error:
        # A transient domain is gone with its process.
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            raise
