"""The unmodified `openstack` client against images, networks and volumes on a real port."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest

from identity.identity_cloud import opened
from image.live_server import serving
from kilonova.http.app import HttpApp
from kilonova.http.landing import LandingFace
from kilonova.identity.cloudsyaml import write_clients
from kilonova.identity.face import IdentityFace
from kilonova.image.face import ImageFace
from kilonova.image.service import EmbeddedImages
from kilonova.network.bootstrap import bootstrap_network
from kilonova.network.face import NetworkFace
from kilonova.network.service import EmbeddedNetwork
from kilonova.pools import Pools
from kilonova.volume.face import VolumeFace

pytestmark = pytest.mark.slow
PYTHON = Path(__file__).parents[2] / ".venv-client" / "bin" / "python"

# One process runs all commands: a start of the client costs more than everything else here.
RUNNER = """
import sys
from openstackclient.shell import OpenStackShell
for line in sys.stdin.read().splitlines():
    try:
        code = OpenStackShell().run(line.split())
    except SystemExit as end:
        code = end.code
    print(f"=> {code or 0} {line}", flush=True)
"""

GOOD = """
image list
image create --disk-format raw --container-format bare --file disk.raw --property os_distro=x --tag t one
image create --import --disk-format raw --container-format bare --file disk.raw two
image list --name one --long
image show one
image set --name uno --property hw_disk_bus=virtio --min-disk 1 --protected one
image unset --property os_distro --tag t uno
image save --file saved.raw uno
image set --unprotected --deactivate uno
image set --activate uno
image add project uno admin
image member list uno
image remove project uno admin
image stores list
image import info
image delete uno two
network list
network show private
network create mine
subnet create --network mine --subnet-range 10.1.0.0/24 --dns-nameserver 9.9.9.9 --tag x sub
subnet set --name sub2 --gateway 10.1.0.9 --no-allocation-pool --allocation-pool start=10.1.0.20,end=10.1.0.30 sub
subnet show sub2
subnet list --network mine
port create --network mine --fixed-ip subnet=sub2,ip-address=10.1.0.77 --tag y p1
port create --network private p2
port list --network mine --long
port set --name p1b --description d p1
port show p1b
port unset --fixed-ip subnet=sub2,ip-address=10.1.0.77 p1b
port list --fixed-ip ip-address=10.11.0.2
security group list
security group create web
security group rule create --protocol tcp --dst-port 22:22 --remote-ip 0.0.0.0/0 web
security group rule list web
port set --security-group web p1b
security group show web
port delete p1b p2
security group delete web
network set --name mine2 --tag z mine
network list --tags z
extension list --network
router list
floating ip list
network agent list
quota show --network
network delete mine2
volume list
volume type list
volume snapshot list
volume backup list
availability zone list --volume
versions show --service image
versions show --service network
"""
REFUSED = """
image task list
image show nothing
image create --public bad
network create --share bad
subnet create --network private --subnet-range 10.11.0.0/24 bad
router create bad
floating ip create private
volume create --size 1 bad
"""


async def test_every_command_a_newcomer_tries(databases: Any, tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip("no .venv-client; `./kilonova openstack --version` makes it")
    (tmp_path / "disk.raw").write_bytes(bytes(range(256)) * 20_000)
    pools = Pools()
    images = EmbeddedImages(databases.global_, tmp_path / "image-store", pools["files"], reserve=0)
    await images.start()
    network = EmbeddedNetwork(databases.global_)
    await bootstrap_network(network, "somebody")
    async with opened(databases, tmp_path) as cloud:
        tokens = cloud.identity.validator
        mounts = {
            "/identity": IdentityFace(cloud.identity), "/image": ImageFace(images, tokens),
            "/network": NetworkFace(network, tokens), "/volume": VolumeFace(tokens), "": LandingFace(()),
        }  # fmt: skip
        async with serving(HttpApp(mounts)) as url:
            write_clients(tmp_path, url, cloud.passwords)
            out = await run_client(tmp_path, GOOD + REFUSED)
    results = {line[5:]: line[3] for line in out.splitlines() if line.startswith("=> ")}
    wanted = {line: "0" for line in GOOD.split("\n") if line} | {line: "1" for line in REFUSED.split("\n") if line}
    assert {line: code for line, code in results.items() if line} == wanted, out[:3000] + out[-3000:]
    assert (tmp_path / "saved.raw").read_bytes() == (tmp_path / "disk.raw").read_bytes()
    pools.close()


async def run_client(folder: Path, commands: str) -> str:
    """What the client says to `commands`, run in `folder` as the user `demo`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    clouds = {"OS_CLIENT_CONFIG_FILE": str(folder / "clouds.yaml"), "OS_CLOUD": "kilonova"}
    client = await asyncio.create_subprocess_exec(
        str(PYTHON), "-c", RUNNER, env={**kept, **clouds}, cwd=folder, stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    try:
        async with asyncio.timeout(110):
            out, _ = await client.communicate(commands.encode())
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    return out.decode()
