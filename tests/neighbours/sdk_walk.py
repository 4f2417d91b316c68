"""Run by the official client's Python: keystoneauth1 and openstacksdk against the clouds of OS_CLIENT_CONFIG_FILE.

Ends with "walked" on stdout; any surprise is an exception.
"""

import datetime

import openstack
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3
from keystoneauth1.service_token import ServiceTokenAuthWrapper

admin, me = openstack.connect(cloud="kilonova-admin"), openstack.connect(cloud="kilonova")
system = openstack.connect(cloud="kilonova-system")
auth_url = me.session.auth.auth_url

# Every service in the catalog is found, and its version documents lead where they should.
for kind in ("compute", "identity", "image", "network", "block-storage", "placement"):
    client = getattr(me, kind.replace("-", "_"))
    assert client.get_endpoint_data() is not None, kind
assert {each.name for each in system.identity.users()} >= {"admin", "demo", "nova"}
try:
    list(me.identity.users())
    raise AssertionError("a member sees all users")
except openstack.exceptions.ForbiddenException:
    pass

# A token that was revoked behind the session's back is renewed by itself.
before = me.session.get_token()
admin.session.delete(f"{auth_url.rstrip('/')}/auth/tokens", headers={"X-Subject-Token": before})
list(me.compute.servers())
assert me.session.get_token() != before

# Application credentials: unrestricted or not, a subset of roles, an end, gone when deleted.
user = me.session.get_user_id()
soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%f")
made = me.identity.create_application_credential(user, "walker", roles=[{"name": "reader"}], expires_at=soon)


def with_credential(**how):
    return session.Session(auth=v3.ApplicationCredential(auth_url, **how))


by_id = with_credential(application_credential_id=made.id, application_credential_secret=made.secret)
by_name = with_credential(
    application_credential_name="walker", application_credential_secret=made.secret, username="demo",
    user_domain_id="default",
)  # fmt: skip
for each in (by_id, by_name):
    access = each.auth.get_access(each)
    assert access.role_names == ["reader"] and access.project_id == me.session.get_project_id()
    assert access.application_credential_id == made.id, vars(access)
reader = openstack.connection.Connection(session=by_id, region_name="RegionOne")
list(reader.compute.servers())
flavor, image = next(iter(me.compute.flavors())), next(iter(me.image.images()))
network = next(iter(me.network.networks()))
wanted = {"name": "no", "flavor_id": flavor.id, "image_id": image.id, "networks": [{"uuid": network.id}]}
try:
    reader.compute.create_server(**wanted)
    raise AssertionError("a reader makes servers")
except openstack.exceptions.ForbiddenException:
    pass
try:
    reader.identity.create_application_credential(user, "child")
    raise AssertionError("a restricted credential makes another")
except openstack.exceptions.ForbiddenException:
    pass
me.identity.delete_application_credential(user, made)
try:
    list(reader.compute.servers())
    raise AssertionError("a deleted credential still counts")
except (exceptions.Unauthorized, exceptions.NotFound):  # of the new log-in, which the first 401 leads to
    pass

# As services do it: the user's token with the service's beside it; a token for another scope; the catalog alone.
mine = v3.Token(auth_url, me.session.get_token(), project_name="demo", project_domain_id="default")
wrapped = ServiceTokenAuthWrapper(user_auth=mine, service_auth=admin.session.auth)
both = openstack.connection.Connection(session=session.Session(auth=wrapped), region_name="RegionOne")
list(both.compute.servers())
assert me.session.auth.get_access(me.session).service_catalog.url_for(service_type="image", interface="public")
server = me.compute.wait_for_server(me.compute.create_server(**{**wanted, "name": "walker"}), wait=30)
assert server.status == "ACTIVE"
me.compute.delete_server(server)
me.compute.wait_for_delete(server, wait=30)
print("walked")
