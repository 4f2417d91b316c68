"""The client of a real Keystone, tried against the embedded service over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from identity_cloud import ADMIN, DEMO, SYSTEM, Cloud, Served, served

from kilonova.config.secret import Secret
from kilonova.config.sections_neighbours import KeystoneAuthtoken
from kilonova.http.errors import Unauthorized, Unavailable
from kilonova.identity.client import KeystoneValidator
from kilonova.identity.session import KeystoneRefused, KeystoneSession, KeystoneUnavailable


def account(served: Served, cloud: Cloud, **more: object) -> KeystoneAuthtoken:
    fields = {
        "auth_url": f"{served.url}/identity", "username": "nova", "user_domain_name": "Default",
        "password": Secret(cloud.passwords["nova"]), "project_name": "service", "project_domain_id": "default",
        "timeout": 5.0,
    }  # fmt: skip
    return KeystoneAuthtoken(**{**fields, **more})  # type: ignore[arg-type]  # fields by name


@pytest.fixture
async def keystone(cloud: Cloud) -> AsyncIterator[Served]:
    async with served(cloud) as found:
        yield found


@pytest.fixture
async def validator(cloud: Cloud, keystone: Served) -> AsyncIterator[KeystoneValidator]:
    session = KeystoneSession(account(keystone, cloud))
    found = KeystoneValidator(session)
    yield found
    await found.close()
    await session.close()


async def test_it_sees_what_the_embedded_one_sees(cloud: Cloud, validator: KeystoneValidator) -> None:
    for name, scope in (("demo", DEMO), ("admin", ADMIN), ("admin", SYSTEM)):
        token = await cloud.token(name, scope)
        near, far = await cloud.identity.validator.validate(token), await validator.validate(token)
        assert near == far
    with pytest.raises(Unauthorized):
        await validator.validate("nonsense")
    with pytest.raises(Unauthorized):
        await validator.validate("with\nnewline")


async def test_keystone_is_asked_once_and_again_in_time(
    cloud: Cloud, validator: KeystoneValidator, keystone: Served
) -> None:
    token = await cloud.token("demo", DEMO)
    await asyncio.gather(*(validator.validate(token) for _ in range(50)))
    assert keystone.asked == ["POST", "GET"]
    revoked = await cloud.ask("DELETE", "/v3/auth/tokens", token, headers={"x-subject-token": token})
    assert revoked.status_code == 204
    async with asyncio.timeout(1.5):
        while await counts(validator, token):  # noqa: ASYNC110  it is told by nobody, only asked
            await asyncio.sleep(0.02)


async def counts(validator: KeystoneValidator, token: str) -> bool:
    try:
        await validator.validate(token)
    except Unauthorized:
        return False
    return True


async def test_a_revoked_token_of_our_own_is_renewed(cloud: Cloud, validator: KeystoneValidator) -> None:
    own = await validator.session.service_token()
    assert await validator.session.service_token() == own
    await cloud.ask("DELETE", "/v3/auth/tokens", own, headers={"x-subject-token": own})
    assert (await validator.validate(await cloud.token("demo", DEMO))).user_name == "demo"
    assert await validator.session.service_token() != own


async def test_away_is_a_503_and_wrong_passwords_are_not_hammered(cloud: Cloud, keystone: Served) -> None:
    wrong = KeystoneSession(account(keystone, cloud, password=Secret("wrong")))
    for _ in range(5):
        with pytest.raises(KeystoneRefused):
            await wrong.service_token()
    assert keystone.asked == ["POST"]
    session = KeystoneSession(account(keystone, cloud), pause_s=0)
    validator = KeystoneValidator(session, keep_s=0)
    token = await cloud.token("demo", DEMO)
    await validator.validate(token)
    await keystone.stop()
    with pytest.raises(Unavailable):
        await validator.validate(token)
    fresh = KeystoneSession(account(keystone, cloud))
    with pytest.raises(KeystoneUnavailable):
        await fresh.service_token()
    for each in (wrong, session, fresh):
        await each.close()


async def test_the_catalog_by_interface_and_region(cloud: Cloud, keystone: Served) -> None:
    session = KeystoneSession(account(keystone, cloud, region_name="RegionOne"))
    assert await session.endpoint("image") == f"{keystone.url}/image"
    with pytest.raises(LookupError):
        await session.endpoint("dns")
    elsewhere = KeystoneSession(account(keystone, cloud, region_name="Mars"))
    with pytest.raises(LookupError):
        await elsewhere.endpoint("image")
    for each in (session, elsewhere):
        await each.close()
