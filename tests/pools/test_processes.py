"""Children: output, limits, timeouts, cancellation; none is left behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from kilonova.pools import Overloaded
from kilonova.processes import INSPECT, Limits, Processes, ProcessFailed, ProcessTimeout


@pytest.fixture
def processes():
    return Processes()


def children():
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            found.add(entry)
    return found


@pytest.fixture(autouse=True)
def nothing_left():
    files, before = len(os.listdir("/proc/self/fd")), children()
    yield
    assert children() <= before
    assert len(os.listdir("/proc/self/fd")) <= files + 3


async def sh(processes, script, **options):
    return await processes.run("sh", "-c", script, **options)


async def test_output_code_and_input(processes):
    done = await sh(processes, "cat; echo err >&2; exit 3", stdin=b"in" * 100_000)
    assert (done.code, done.out, done.err) == (3, b"in" * 100_000, b"err\n")
    assert not done.cut and done.seconds > 0 and done.cpu >= 0
    with pytest.raises(ProcessFailed, match="code 3: err"):
        done.checked()
    assert (await processes.run("true")).checked().code == 0


async def test_environment_and_directory(processes, tmp_path):
    done = await sh(processes, 'echo "$LC_ALL $X"; pwd', env={"X": "1"}, cwd=tmp_path)
    assert done.out.decode().split("\n")[:2] == ["C 1", str(tmp_path)]
    odd = tmp_path / "a b;$x"
    odd.mkdir()
    assert (await processes.run("pwd", cwd=odd)).out.decode().strip() == str(odd)


async def test_a_session_of_its_own_and_signals_as_usual(processes):
    script = "import os,signal; print(os.getsid(0) == os.getpid(), signal.getsignal(signal.SIGPIPE))"
    done = await processes.run(sys.executable, "-S", "-c", script)
    assert done.out.startswith(b"True")
    done = await sh(processes, "kill -PIPE $$")
    assert done.code == -signal.SIGPIPE


async def test_no_descriptor_of_ours_is_inherited(processes, tmp_path):
    fd = os.open(tmp_path / "x", os.O_CREAT | os.O_RDWR)
    try:
        done = await processes.run("ls", "-l", "/proc/self/fd")
    finally:
        os.close(fd)
    assert str(tmp_path).encode() not in done.out


async def test_much_output_is_cut_not_waited_for(processes):
    done = await sh(processes, "head -c 5000000 /dev/zero; head -c 10 /dev/zero >&2", max_output=1000)
    assert len(done.out) == 1000 and done.cut
    assert len(done.err) == 10
    assert done.code == 0


@pytest.mark.parametrize("options", [{}, {"limits": INSPECT}])
async def test_what_is_not_there(processes, options):
    with pytest.raises(FileNotFoundError):
        await processes.run("kilonova-no-such-program", **options)


async def test_memory_and_processor_limits(processes):
    code = "x = bytearray(1 << 29); print('had it')"
    done = await processes.run(sys.executable, "-S", "-c", code, limits=Limits(memory=1 << 28))
    assert done.code != 0 and b"MemoryError" in done.err
    done = await sh(processes, "while :; do :; done", limits=Limits(cpu=1), timeout=20)
    assert done.code in (-signal.SIGXCPU, -signal.SIGKILL)
    done = await sh(processes, "ulimit -n; ulimit -c", limits=Limits(files=17))
    assert done.out.split() == [b"17", b"0"]


async def test_a_timeout_kills_the_whole_group(processes, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ProcessTimeout, match="sh did not end in"):
            await sh(processes, f"sleep 60 > {pipe} & sleep 60", timeout=0.2)
        os.set_blocking(reader, True)
        async with asyncio.timeout(5):
            # End of file: the grandchild, who held the pipe, is gone.
            assert await asyncio.to_thread(os.read, reader, 1) == b""
    finally:
        os.close(reader)


async def test_a_grandchild_that_keeps_the_pipe_is_not_waited_for(processes):
    done = await sh(processes, "sleep 2 & echo out", timeout=1.5)
    assert done.out == b"out\n"


async def test_cancelling_kills_and_reaps(processes):
    task = asyncio.create_task(processes.run("sleep", "60"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_few_at_once_and_a_bounded_line():
    processes = Processes(heavy=1, light=1, waiting=1)
    tasks = [asyncio.create_task(processes.run("sleep", "0.2", heavy=True)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="heavy"):
        await processes.run("true", heavy=True)
    assert (await processes.run("true")).code == 0, "light ones have places of their own"
    done = await asyncio.gather(*tasks)
    assert [each.code for each in done] == [0, 0]
    assert (await processes.run("true", heavy=True)).code == 0
