"""The unmodified `openstack` client against the service on a real port, with the files it is given."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
from identity_cloud import Cloud, served

from kilonova.identity.cloudsyaml import write_clients

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
token issue
project list
project create --description x --tag t p1
project set --property color=red p1
project show p1 --parents --children
user create --password pw --project p1 --email a@b u1
user list --long
user set --password pw2 u1
role list
role add --user u1 --project p1 member
role assignment list --names
role assignment list --user u1 --names --effective
group create g1
group add user g1 u1
group contains user g1 u1
role add --group g1 --domain default reader
domain create d1
domain set --disable d1
domain delete d1
catalog list
service list
endpoint list
region create r2
service create --name dns dns
endpoint create --region r2 dns public http://x/%(tenant_id)s
application credential create --role reader ac1
application credential list
ec2 credentials create
ec2 credentials list
credential create --type cert admin blob
credential list
implied role list
role create r1
implied role create --implied-role reader r1
registered limit create --service compute --default-limit 3 servers
limit create --project p1 --service compute --resource-limit 2 servers
limit list
versions show --service identity
role remove --user u1 --project p1 member
user delete u1
project delete p1
--os-cloud kilonova-system user list
--os-cloud kilonova token issue
--os-cloud kilonova project list
--os-cloud kilonova application credential create mine
"""
REFUSED = """
trust list
--os-cloud kilonova user list
--os-cloud kilonova project create mine
--os-cloud kilonova --os-password wrong token issue
"""


async def test_every_command_a_newcomer_tries(cloud: Cloud, tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip("no .venv-client; `./kilonova openstack --version` makes it")
    async with served(cloud) as keystone:
        write_clients(tmp_path, keystone.url, cloud.passwords)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        clouds = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml"), "OS_CLOUD": "kilonova-admin"}
        client = await asyncio.create_subprocess_exec(
            str(PYTHON), "-c", RUNNER, env={**kept, **clouds}, stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        try:
            async with asyncio.timeout(100):
                out, _ = await client.communicate((GOOD + REFUSED).encode())
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
    results = {line[5:]: line[3] for line in out.decode().splitlines() if line.startswith("=> ")}
    wanted = {line: "0" for line in GOOD.split("\n") if line} | {line: "1" for line in REFUSED.split("\n") if line}
    assert {line: code for line, code in results.items() if line} == wanted, out.decode()[-3000:]
