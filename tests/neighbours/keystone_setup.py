"""Run by the real services' Python: `keystone_setup.py CONFIG URL`, the admin's password on stdin.

Tables, keys and the first account, one import for all of them.
"""

import os
import sys

config, url = sys.argv[1:]
password = sys.stdin.readline().strip()

from keystone.cmd import manage  # noqa: E402 - reads the command line when it is told to

owner = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
urls = [word for kind in ("admin", "internal", "public") for word in (f"--bootstrap-{kind}-url", url)]
os.environ["OS_BOOTSTRAP_PASSWORD"] = password
for words in (
    ["db_sync"], ["fernet_setup", *owner], ["credential_setup", *owner],
    ["bootstrap", "--bootstrap-region-id", "RegionOne", *urls],
):  # fmt: skip
    child = os.fork()
    if not child:
        sys.argv = ["keystone-manage", "--config-file", config, *words]
        manage.main()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"keystone-manage {words[0]} failed")
