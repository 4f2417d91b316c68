"""Reports: results until acknowledged, levels of guests, beats for many hosts, repair after loss."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from compute_cloud import OTHER, SERVER, Cloud, FakeDriver, destroy, spawn, until

from kilonova.bus.api import RemoteError
from kilonova.compute import reporter
from kilonova.compute.ledger import LedgerInUse
from kilonova.compute.service import ComputeService
from kilonova.compute.virt.driver import Transient
from kilonova.model.command import HostReport
from kilonova.model.guest import GuestFact
from kilonova.model.power import PowerState


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths."""
    monkeypatch.setattr(reporter, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(reporter, "FULL_SECONDS", 1.2)
    monkeypatch.setattr(reporter, "AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(reporter, "FULL_PAUSE", 0.002)


def full(cloud: Cloud) -> list[HostReport]:
    return [report for report in cloud.reports() if report.full]


async def test_what_takes_long_is_accepted_and_reported(cloud: Cloud, driver: FakeDriver) -> None:
    driver.gate.clear()
    assert await cloud.call(spawn()) is None
    driver.gate.set()
    await until(cloud.results)
    assert [(r.key, r.ok) for r in cloud.results()] == [("op1/guest.spawn/", True)]
    again = await cloud.call(spawn())
    assert again == cloud.results()[0]


@pytest.mark.usefixtures("quick")
async def test_a_result_is_repeated_until_it_is_acknowledged(cloud: Cloud, driver: FakeDriver) -> None:
    await until(lambda: full(cloud))
    cloud.refuse = RemoteError("internal", "database away", True)
    driver.gate.clear()
    await cloud.call(spawn())
    driver.gate.set()
    await until(lambda: driver.made)
    await asyncio.sleep(0.1)
    assert not cloud.results()
    cloud.refuse = None
    await until(cloud.results)
    await asyncio.sleep(0.1)
    assert len(cloud.results()) == 1


async def test_a_promised_result_survives_a_restart(cloud: Cloud, driver: FakeDriver) -> None:
    await until(lambda: full(cloud))
    cloud.refuse = RemoteError("internal", "database away", True)
    driver.gate.clear()
    await cloud.call(spawn())
    driver.gate.set()
    await until(lambda: cloud.service.ledger.entry("host-1", SERVER).owed)
    await cloud.stop_compute()
    cloud.refuse = None
    await cloud.start_compute()
    await until(cloud.results)
    assert cloud.results()[0].ok
    await until(lambda: not cloud.service.ledger.entry("host-1", SERVER).owed)
    cloud.beats.clear()
    await cloud.restart_compute()
    await until(lambda: full(cloud))
    assert not cloud.results(), "acknowledged is acknowledged"


async def test_what_was_begun_and_not_ended_is_reported_as_interrupted(cloud: Cloud, driver: FakeDriver) -> None:
    driver.gate.clear()
    await cloud.call(spawn())
    await cloud.restart_compute()
    await until(cloud.results)
    result = cloud.results()[0]
    assert (result.ok, result.code, result.retry) == (False, "interrupted", True)
    await until(lambda: not cloud.service.ledger.entry("host-1", SERVER).begun)
    driver.gate.set()
    again = await cloud.call(spawn())
    assert again is not None and again.ok


async def test_what_may_work_later_is_reported_and_not_kept(cloud: Cloud, driver: FakeDriver) -> None:
    driver.gate.clear()
    await cloud.call(spawn())
    driver.fail_late = Transient("hypervisor", "libvirtd went away")
    driver.gate.set()
    await until(cloud.results)
    assert (cloud.results()[0].code, cloud.results()[0].retry) == ("hypervisor", True)
    await until(lambda: not cloud.service.ledger.entry("host-1", SERVER).begun)
    driver.fail_late = None
    again = await cloud.call(spawn())
    assert again is not None and again.ok


@pytest.mark.usefixtures("quick")
async def test_progress_is_reported_while_it_lasts(cloud: Cloud, driver: FakeDriver) -> None:
    driver.gate.clear()
    await cloud.call(spawn())
    await until(lambda: any(report.progress for report in cloud.reports()))
    progress = next(report.progress[0] for report in cloud.reports() if report.progress)
    assert (progress.key, progress.percent, progress.detail) == ("op1/guest.spawn/", 40, "copying")


async def test_an_event_leads_to_a_report_of_that_guest_only_if_it_differs(cloud: Cloud, driver: FakeDriver) -> None:
    await until(lambda: full(cloud))
    await cloud.call(spawn())
    cloud.beats.clear()
    driver.changed(SERVER)
    driver.made[SERVER] = GuestFact(uuid=SERVER, power_state=PowerState.CRASHED)
    driver.changed(SERVER)
    await until(cloud.reports)
    assert [report.guests for report in cloud.reports()] == [(driver.made[SERVER],)]
    assert not cloud.reports()[0].full
    del driver.made[SERVER]
    driver.changed(SERVER)
    await until(lambda: len(cloud.reports()) == 2)
    assert cloud.reports()[1].gone == (SERVER,)
    first, second = cloud.reports()
    assert (first.incarnation, first.seq) < (second.incarnation, second.seq)


async def test_what_commands_did_is_not_reported_again(cloud: Cloud, driver: FakeDriver) -> None:
    await until(lambda: full(cloud))
    cloud.beats.clear()
    await cloud.call(spawn())
    await cloud.call(destroy())
    driver.made[OTHER] = GuestFact(uuid=OTHER, power_state=PowerState.RUNNING)
    driver.changed(OTHER)
    await until(cloud.reports)
    assert [fact.uuid for report in cloud.reports() for fact in report.guests] == [OTHER]


async def test_a_conductor_that_comes_gets_everything(cloud: Cloud, driver: FakeDriver) -> None:
    driver.made[SERVER] = GuestFact(uuid=SERVER, power_state=PowerState.RUNNING)
    await until(lambda: full(cloud))
    cloud.beats.clear()
    await cloud.conductor.stop()
    await cloud.conductor.start()
    await until(lambda: full(cloud))
    report = full(cloud)[0]
    assert report.facts is not None and report.facts.vcpus == 4
    assert report.guests == (driver.made[SERVER],)
    assert any(beats.hosts == ("host-1",) for beats in cloud.beats)


@pytest.mark.usefixtures("quick")
async def test_full_reports_repair_what_was_lost(cloud: Cloud, driver: FakeDriver) -> None:
    """Guests appear and vanish without any event; a sixtieth of the hosts is due each beat."""
    driver.made[SERVER] = GuestFact(uuid=SERVER, power_state=PowerState.PAUSED)
    await until(lambda: any(report.guests for report in full(cloud)))
    del driver.made[SERVER]
    cloud.beats.clear()
    await until(lambda: any(not report.guests for report in full(cloud)))


@pytest.mark.usefixtures("quick")
async def test_a_hypervisor_that_is_away_stops_full_reports_but_not_beats(cloud: Cloud, driver: FakeDriver) -> None:
    await until(lambda: full(cloud))
    driver.away = Transient("hypervisor", "libvirtd is away")
    await asyncio.sleep(0.05)
    cloud.beats.clear()
    cloud.service.reporter.reconnected()
    await until(lambda: len(cloud.beats) > 5)
    assert not full(cloud)
    driver.away = None
    await until(lambda: full(cloud))


@pytest.mark.usefixtures("quick")
async def test_many_hosts_share_a_beat_and_take_turns_with_full_reports(tmp_path: Path) -> None:
    names = [f"sim-{n}" for n in range(300)]
    cloud = Cloud(tmp_path, {name: FakeDriver(name) for name in names})
    await cloud.start()
    try:
        await until(lambda: {report.host for report in full(cloud)} == set(names))
        first = cloud.beats[0]
        assert first.process == "compute-1" and first.hosts == tuple(names)
        assert max(len(beats.reports) for beats in cloud.beats) <= reporter.FULL_BATCH
        later = [beats for beats in cloud.beats if beats.hosts is None]
        assert later and all(beats.members == first.members for beats in later)
        counted = [beats.beat for beats in cloud.beats if not beats.reports]
        assert counted == sorted(counted)
        # a conductor that lost its memory asks for the names
        original = cloud._report

        async def forgetful(sender: object, payload: bytes) -> None:
            if b'"hosts":null' in payload:
                raise RemoteError("unknown_members", "")
            await original(sender, payload)  # type: ignore[arg-type]

        cloud.beats.clear()
        cloud.conductor.on_report(forgetful)
        await until(lambda: any(beats.hosts == tuple(names) for beats in cloud.beats))
        cloud.conductor.on_report(original)
        cloud.beats.clear()
        await until(lambda: {report.host for report in full(cloud)} == set(names))
    finally:
        await cloud.stop()


async def test_a_second_process_on_the_same_directory_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    second = ComputeService(cloud.bus, "compute-1", {}, tmp_path)
    with pytest.raises(LedgerInUse):
        await second.start()


@pytest.mark.usefixtures("quick")
async def test_one_report_a_host_in_an_envelope_with_rising_numbers(cloud: Cloud, driver: FakeDriver) -> None:
    await until(lambda: full(cloud))
    driver.gate.clear()
    await cloud.call(spawn())
    driver.made[OTHER] = GuestFact(uuid=OTHER, power_state=PowerState.RUNNING)
    cloud.service.reporter.reconnected()
    driver.changed(OTHER)
    driver.gate.set()
    await until(lambda: cloud.results() and any(report.guests for report in cloud.reports()))
    numbers = [report.seq for report in cloud.reports()]
    assert numbers == sorted(set(numbers))
    for beats in cloud.beats:
        assert len({report.host for report in beats.reports}) == len(beats.reports)


@pytest.mark.usefixtures("quick")
async def test_a_driver_with_a_bug_does_not_end_reporting(cloud: Cloud, driver: FakeDriver) -> None:
    driver.away = ZeroDivisionError()  # type: ignore[assignment]
    cloud.service.reporter.reconnected()
    cloud.beats.clear()
    await until(lambda: len(cloud.beats) > 5)
    driver.away = None
    await until(lambda: full(cloud))
