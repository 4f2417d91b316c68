"""A whole cloud as a stranger starts it: `./kilonova up` in a process of its own, on a private DIR and a free port."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

import kilonova
from kilonova.compute.virt.sim.world import HostSize, SimWorld

ROOT = Path(kilonova.__file__).parents[2]
KILONOVA = str(ROOT / "kilonova")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(condition: Callable[[], object], what: str, seconds: float = 30.0) -> object:
    """The first true answer of `condition`, looked at often; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)
    return answer


def call(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """`./kilonova WORDS` to its end."""
    settings: dict[str, object] = {"capture_output": True, "text": True, "timeout": 100, "stdin": subprocess.DEVNULL}
    return subprocess.run([KILONOVA, *words], check=False, **{**settings, **options})  # type: ignore[call-overload]  # options are subprocess's own


class CloudProcess:
    """One DIR; `start` and `kill` as often as wanted. `prefix`: a command that runs the cloud's `command`."""

    def __init__(
        self, folder: Path, *, driver: str = "sim", sim_hosts: int = 2, settings: str = "",
        prefix: Sequence[str] = (), command: Sequence[str] = (KILONOVA,), environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.driver, self.command = folder, driver, (*prefix, *command)
        self.port = free_port()
        self.output = folder.with_name(folder.name + ".out")
        self.environment = environment
        self.child: subprocess.Popen[bytes] | None = None
        self.words = ["up", "--dir", str(folder), "--port", str(self.port), "--driver", driver]
        self.words += ["--sim-hosts", str(sim_hosts)] if driver == "sim" else []
        if settings:
            path = folder.with_name(folder.name + ".toml")
            path.write_text(settings)
            self.words += ["--config", str(path)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def size(self, hosts: int, size: HostSize) -> None:
        """Make the sim hosts that small; before the first start."""
        world = SimWorld(self.folder / "sim" / "world.db")
        for n in range(1, hosts + 1):
            world.resize(f"sim-{n:04d}", size)
        world.close()

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it and return at once."""
        with self.output.open("wb") as out:
            self.child = subprocess.Popen(
                [*self.command, *self.words], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, env=dict(self.environment) if self.environment else None,
            )  # fmt: skip
        return self.child

    def start(self, seconds: float = 60.0) -> None:
        """Return once it says that it is up."""
        child = self.spawn()
        wait_for(lambda: child.poll() is not None or "kilonova is up" in self.said(), "the banner", seconds)
        assert child.poll() is None, f"ended with {child.returncode}: {self.said()}"

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def log(self) -> str:
        try:
            return (self.folder / "kilonova.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def kill(self) -> None:
        """SIGKILL, where it stands."""
        if self.child is not None and self.child.poll() is None:
            self.child.kill()
            self.child.wait(20)

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Ask it to end; the seconds that took. AssertionError after 20 s or for another exit code than 0."""
        assert self.child is not None
        began = time.monotonic()
        self.child.send_signal(number)
        try:
            code = self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end; its log: {self.log()[-3000:]}") from None
        assert code == 0, self.said()
        return time.monotonic() - began

    def account(self, name: str) -> dict[str, str]:
        """What clouds.yaml says of one cloud."""
        clouds = yaml.safe_load((self.folder / "clouds.yaml").read_text())
        return dict(clouds["clouds"][name]["auth"])

    def openstack(self, *words: str, cloud: str = "kilonova") -> str:
        """The official client's answer; AssertionError with what it said when it fails."""
        done = subprocess.run(
            [str(ROOT / ".venv-client" / "bin" / "openstack"), *words],
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "OS_CLOUD": cloud,
                 "OS_CLIENT_CONFIG_FILE": str(self.folder / "clouds.yaml")},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"openstack {' '.join(words)}: {done.stderr}"
        return done.stdout

    def openstack_json(self, *words: str, cloud: str = "kilonova") -> object:
        return json.loads(self.openstack(*words, "-f", "json", cloud=cloud))

    def remove(self) -> None:
        """Stop it and remove all that it made, whatever state it is in."""
        self.kill()
        done = call("down", "--purge", "--dir", str(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.output.unlink(missing_ok=True)
        self.folder.with_name(self.folder.name + ".toml").unlink(missing_ok=True)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A directory that other users may enter (pytest's own are closed to them)."""
    folder = Path(tempfile.mkdtemp(prefix="kn-cloud-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_cloud(folder: Path, **options: object) -> Iterator[CloudProcess]:
    """A cloud that is up; purged at the end, also on failure."""
    cloud = CloudProcess(folder, **options)  # type: ignore[arg-type]  # the caller's are CloudProcess's own
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.remove()
