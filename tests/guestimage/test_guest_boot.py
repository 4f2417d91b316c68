"""The guest from power-on to power-off, on bare QEMU: what a user of the cloud would see of it."""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from guestimage.configdrive import write_iso
from guestimage.machine import drive, free_port, machine, run
from kilonova.guestimage import GuestImage

pytestmark = [pytest.mark.libvirt, pytest.mark.slow, pytest.mark.timeout(300)]

UUID = "0f2b9c1e-5f0e-4a57-9a43-0c6c2f6d1b11"
_ONE_ANSWER = """
import pathlib, sys
path = sys.stdin.readline().split()[1]
while sys.stdin.readline().strip():
    pass
file = pathlib.Path({root!r} + path)
found = file.is_file()
data = file.read_bytes() if found else b""
head = "HTTP/1.0 " + ("200 OK" if found else "404 Not Found") + "\\r\\nContent-Length: " + str(len(data))
sys.stdout.buffer.write(head.encode() + b"\\r\\n\\r\\n" + data)
sys.stdout.buffer.flush()
"""
"""A web server for one request on stdin, which QEMU starts for each connection from the guest."""
SCRIPT = b"#!/bin/sh\necho ran for $(hostname)\nexit 3\n"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs the openssh-client package")
    path = tmp_path / "key"
    _ssh_keygen(path)
    return path


def _ssh_keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me@laptop", "-f", str(path)], check=True)


def _meta_data(public_key: str, hostname: str) -> bytes:
    facts = {
        "uuid": UUID,
        "name": 'a "quoted" \N{SNOWMAN} name\\',
        "hostname": hostname,
        "launch_index": 0,
        "meta": {"a/b": "line\nline\ttab", "deep": "{[\"'"},
        "keys": [{"name": "mine", "type": "ssh", "data": public_key}],
        "public_keys": {"mine": public_key},
        "random_seed": "QUJD" * 171,
    }
    return json.dumps(facts).encode()


async def _ssh(port: int, key: Path, command: str, *options: str, user: str = "kilo") -> tuple[int, str]:
    return await run(
        "ssh", "-i", str(key), "-p", str(port), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=30", "-F", "none",
        *(options or ("-o", "BatchMode=yes")), f"{user}@127.0.0.1", command,
    )  # fmt: skip


async def test_a_server_from_its_config_drive(image: GuestImage, key: Path, tmp_path: Path) -> None:
    public = key.with_suffix(".pub").read_text()
    config = tmp_path / "config.iso"
    write_iso(config, {"meta_data.json": _meta_data(public, "web-1.novalocal"), "user_data": SCRIPT})
    port = free_port()
    network = ("-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22")

    async with machine(tmp_path, Path(image.path), *drive(config), *network) as guest:
        await guest.wait_for(r"Linux version ")
        await guest.wait_for(rf"kilonova-guest: instance-id={UUID}\n")
        await guest.wait_for(r"kilonova-guest: hostname=web-1 \(config drive\)\n")
        _code, print_of_key = await run("ssh-keygen", "-l", "-f", str(key) + ".pub")
        told = (await guest.wait_for(r"kilonova-guest: key (SHA256:\S+) (.*)\n")).groups()
        assert told == (print_of_key.split()[1], public.strip())
        await guest.wait_for(r"\nweb-1 login: ")
        assert guest.cpu_seconds() < 12
        await guest.wait_for(r"kilonova-guest: eth0 10\.0\.2\.15/24 via 10\.0\.2\.2 \(dhcp\)\n")
        await guest.wait_for(r"kilonova-guest: user data says: ran for web-1\n")
        await guest.wait_for(rf"kilonova-guest: user data: {len(SCRIPT)} bytes, ran exit 3\n")

        code, out = await _ssh(port, key, "id -un; df -m / | tail -n 1; cat /var/lib/kilonova/instance-id")
        assert code == 0, out
        user, disk, instance = out.splitlines()
        assert (user, instance) == ("kilo", UUID)
        assert int(disk.split()[1]) > 900, "the root file system fills the disk"
        await _refuses_all_but_the_key(port, key, tmp_path)

        code, host_key = await _ssh(port, key, "cat /etc/dropbear/*_host_key | sha256sum; reboot", user="root")
        assert "web-1 login:" not in guest.console[guest.console.rindex("bytes, ran exit") :]
        await guest.wait_for(r"\nweb-1 login: ")
        await guest.wait_for(rf"kilonova-guest: user data: {len(SCRIPT)} bytes, ran at the first boot\n")
        code, out = await _ssh(port, key, "cat /etc/dropbear/*_host_key | sha256sum", user="root")
        assert out.splitlines()[0] == host_key.splitlines()[0], "the host key outlives a reboot"

        await guest.press_power_button()
        await guest.read_to_end()
        assert guest.process.returncode == 0
        assert "kilonova-guest: power button\n" in guest.console
    assert not await _needs_recovery(tmp_path)


async def _refuses_all_but_the_key(port: int, key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    _ssh_keygen(other)
    code, out = await _ssh(port, other, "true")
    assert code == 255
    assert "Permission denied (publickey)" in out
    code, out = await _ssh(port, key, "true", "-o", "BatchMode=yes", "-o", "PubkeyAuthentication=no")
    assert code == 255
    assert "(publickey)" in out, "no other way in is even offered"


async def _needs_recovery(folder: Path) -> bool:
    """Whether the root file system's journal is not empty: ext4's incompatible feature 0x4, at 1024 + 0x60."""
    raw = folder / "disk.raw"
    await run("qemu-img", "convert", "-O", "raw", str(folder / "disk.qcow2"), str(raw))
    with raw.open("rb") as disk:
        start = struct.unpack_from("<I", disk.read(512), 446 + 16 + 8)[0]
        disk.seek(start * 512 + 1024 + 0x60)
        return bool(struct.unpack("<I", disk.read(4))[0] & 4)


async def test_a_server_from_the_metadata_service(image: GuestImage, tmp_path: Path) -> None:
    folder = tmp_path / "served" / "openstack" / "latest"
    folder.mkdir(parents=True)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0000000000000000000000000000000000000000000 served"
    (folder / "meta_data.json").write_bytes(_meta_data(key + "\n", "served-1"))
    (folder / "user_data").write_bytes(b"#cloud-config\n{}\n")
    server = tmp_path / "server.py"
    server.write_text(_ONE_ANSWER.format(root=str(tmp_path / "served")))
    network = (
        "-nic",
        "user,model=virtio-net-pci,net=169.254.169.0/24,dhcpstart=169.254.169.15,"
        f"guestfwd=tcp:169.254.169.254:80-cmd:{sys.executable} {server}",
    )
    async with machine(tmp_path, Path(image.path), *network, memory=image.min_ram) as guest:
        await guest.wait_for(r"kilonova-guest: hostname=served-1 \(metadata service\)\n")
        await guest.wait_for(rf"kilonova-guest: key SHA256:\S+ {key}\n")
        await guest.wait_for(r"\nserved-1 login: ")
        await guest.wait_for(r"kilonova-guest: user data: 17 bytes, not a script, kept in \S+\n")


async def test_a_server_without_dhcp_takes_its_address_from_network_data(image: GuestImage, tmp_path: Path) -> None:
    mac = "52:54:00:aa:bb:cc"
    network_data = {
        "links": [{"id": "tap0", "type": "bridge", "ethernet_mac_address": mac.upper(), "mtu": 1400}],
        "networks": [
            {
                "id": "network0", "type": "ipv4", "link": "tap0", "ip_address": "10.9.8.7", "netmask": "255.255.248.0",
                "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.9.8.1"}],
            }
        ],
        "services": [{"type": "dns", "address": "10.9.8.2"}],
    }  # fmt: skip
    config = tmp_path / "config.iso"
    script = b"#!/bin/sh\nip route\nip -o link show eth0\ncat /etc/resolv.conf\n"
    write_iso(
        config,
        {
            "meta_data.json": json.dumps({"uuid": UUID, "hostname": "static-1"}).encode(),
            "network_data.json": json.dumps(network_data).encode(),
            "user_data": script,
        },
    )
    nowhere = ("-netdev", "hubport,id=n0,hubid=0", "-device", f"virtio-net-pci,netdev=n0,mac={mac}")
    async with machine(tmp_path, Path(image.path), *drive(config), *nowhere) as guest:
        await guest.wait_for(r"kilonova-guest: no key given: nobody can log in\n")
        await guest.wait_for(r"kilonova-guest: eth0 10\.9\.8\.7/\S+ \(network data\)\n")
        await guest.wait_for(r"ran exit 0\n")
        said = [line.split("says: ")[1] for line in guest.console.splitlines() if "user data says: " in line]
        assert any(line.startswith("default via 10.9.8.1 dev eth0") for line in said), said
        assert any(line.startswith("10.9.8.0/21 dev eth0") for line in said), said
        assert any("mtu 1400" in line for line in said), said
        assert "nameserver 10.9.8.2" in said


async def test_waiting_is_bounded(image: GuestImage, tmp_path: Path) -> None:
    """The test's own tool: a machine that ends is an error at once, not after the deadline."""
    async with machine(tmp_path, Path(image.path), "-S") as guest:
        guest.process.kill()
        with pytest.raises(AssertionError, match="ended before"):
            async with asyncio.timeout(20):
                await guest.wait_for("login:")
