"""Log lines: what is on them, that writing never waits, and that rotation and full disks are survived."""

import json
import logging
import os
import signal
import threading
import time

import pytest

from kilonova import log

LOG = log.get_logger("kilonova.test")


@pytest.fixture
def start(tmp_path):
    def starter(**options):
        path = tmp_path / "k.log"
        log.setup(target=path, **options)
        return path

    yield starter
    log.close()


def lines(path):
    assert log.flush()
    return path.read_text().splitlines()


def test_a_text_line(start):
    path = start()
    with log.bound(request_id="req-1", instance="i-1"):
        LOG.info("booted %s", "vm", extra=log.facts(ms=12, name='a "b"', empty=""))
    LOG.debug("unseen")
    (line,) = lines(path)
    stamp, _, rest = line.partition(" ")
    assert stamp.endswith("Z") and len(stamp) == 27
    assert rest == (r'INFO    kilonova.test booted vm request_id=req-1 instance=i-1 ms=12 name="a \"b\"" empty=""')


def test_a_json_line_and_its_exception(start):
    path = start(json=True, level="debug")
    log.operation_id.set("op-1")
    try:
        raise ValueError("wrong\nvalue")
    except ValueError:
        LOG.exception("failed", extra=log.facts(message="kept apart", odd=object()))
    finally:
        log.operation_id.set(None)
    (line,) = lines(path)
    fields = json.loads(line)
    assert fields["message"] == "failed"
    assert fields["operation_id"] == "op-1"
    assert fields["level"] == "error"
    assert "ValueError: wrong\nvalue" in fields["exception"]


def test_text_from_outside_forges_no_line(start):
    path = start()
    LOG.info("name %s", "x\n2026-01-01 fake\x1b[31m\r\u2028y")
    LOG.info("ok", extra=log.facts(v="a\nb"))
    first, second = lines(path)
    assert r"x\n2026-01-01 fake\x1b[31m\r\u2028y" in first
    assert second.endswith(r'v="a\nb"')


def test_tracebacks_are_indented(start):
    path = start()
    try:
        raise KeyError("k")
    except KeyError:
        LOG.exception("bad")
    head, *trace = lines(path)
    assert head.endswith("bad")
    assert trace and all(line.startswith("    ") for line in trace)


def test_bound_refuses_what_it_does_not_know():
    with pytest.raises(TypeError), log.bound(requestid="x"):
        pass


def test_a_wrong_format_string_fails_nobody(start):
    path = start()
    LOG.info("%d", "x")
    LOG.info("after")
    assert len(lines(path)) == 2


def test_uvicorn_and_warnings_come_here(start):
    stray = logging.StreamHandler()
    logging.getLogger("uvicorn").addHandler(stray)
    path = start()
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.access").info("unwanted")
    names = [line.split()[2] for line in lines(path)]  # other tests' leftovers may speak meanwhile
    assert [name for name in names if name.startswith("uvicorn")] == ["uvicorn.error"]
    assert not logging.getLogger("uvicorn").handlers


def test_a_full_queue_drops_and_counts_and_never_waits(start, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        log.setup(target=pipe, queue=100)
        began = time.monotonic()
        for _ in range(5000):  # the writer stands still at the pipe's 64 kB
            LOG.info("x" * 1000)
        assert time.monotonic() - began < 5
        assert log.dropped() > 4000
        os.set_blocking(reader, True)
        stop = threading.Event()

        def drain():
            while not stop.is_set():
                os.read(reader, 1 << 16)

        thread = threading.Thread(target=drain, daemon=True)
        thread.start()
        assert log.flush(10)
        stop.set()
        LOG.info("last")
        thread.join(5)
        log.close()
    finally:
        os.close(reader)


def test_drops_are_told(start, tmp_path):
    path = start(queue=1)
    for _ in range(1000):
        LOG.info("many")
    text = lines(path)
    assert log.dropped() > 0
    assert any("log lines dropped" in line for line in [*text, *lines(path)])


def test_a_renamed_file_is_opened_anew(start, tmp_path):
    path = start()
    LOG.info("one")
    assert log.flush()
    path.rename(tmp_path / "k.log.1")
    LOG.info("two")
    assert lines(path)[0].endswith("two")
    assert (tmp_path / "k.log.1").read_text().count("\n") == 1


def test_sighup_reopens(tmp_path):
    before = signal.getsignal(signal.SIGHUP)
    path = tmp_path / "k.log"
    try:
        log.setup(target=path, sighup=True)
        os.kill(os.getpid(), signal.SIGHUP)
        LOG.info("still here")
        assert lines(path)[0].endswith("still here")
    finally:
        log.close()
        signal.signal(signal.SIGHUP, before)


def test_a_disk_that_refuses_does_not_reach_the_caller():
    log.setup(target="/dev/full")
    try:
        LOG.info("lost")
        assert log.flush()
        assert log.dropped() == 1
    finally:
        log.close()


def test_close_writes_what_waits_and_restores(start):
    handlers = logging.getLogger().handlers[:]
    path = start()
    for number in range(3000):
        LOG.info("n=%d", number)
    log.close()
    assert len(path.read_text().splitlines()) == 3000
    assert logging.getLogger().handlers == handlers
    log.close()


def test_a_file_that_cannot_be_opened_changes_nothing(tmp_path):
    handlers = logging.getLogger().handlers[:]
    with pytest.raises(OSError, match="absent"):
        log.setup(target=tmp_path / "absent" / "k.log")
    assert logging.getLogger().handlers == handlers
