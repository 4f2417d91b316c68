"""Which libvirt daemon to use, and one of our own where there is none.

A machine run by systemd has a system daemon that starts when asked. A container or a bare root file system has
not: there, as root, we start virtlogd and libvirtd ourselves at the usual socket, so `virsh` finds the guests
as on any host, libvirtd below a `reaper`. They outlive kilonova, as guests do; `stop` ends them when a cloud
is purged. Without root it is the session daemon, which the library starts.

Our daemon reads a qemu.conf of ours, bound over the distribution's in a mount namespace; nothing under /etc
is written. QEMU keeps the distribution's unprivileged user and its sandbox. Where that user can't open
/dev/kvm, as in containers whose /dev nobody set up, the daemon gets a node of ours in its place that QEMU's group
may open, if KVM is known to work; else the device is hidden from the daemon as well: otherwise libvirt sees
KVM when it probes and misses it afterwards, and probes again on every call (4 s each).

All of this blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from kilonova.compute.virt.driver import Transient
from kilonova.compute.virt.libvirt import reaper

SYSTEM, SESSION = "qemu:///system", "qemu:///session"
QEMU_USERS = ("libvirt-qemu", "qemu")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SOCKETS = Path("/run/libvirt")
_START_S = 20.0


def ensure_daemon(directory: Path) -> str:
    """The URI of a daemon that answers. Transient if none can be had."""
    directory = directory.resolve()
    if os.geteuid() != 0:
        return SESSION
    if answers(SYSTEM):
        return SYSTEM
    with _lock():
        if answers(SYSTEM):
            return SYSTEM
        if Path("/run/systemd/system").exists():
            with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError):
                subprocess.run(["systemctl", "start", "libvirtd"], capture_output=True, timeout=60, check=False)
        else:
            _start(directory)
        deadline = time.monotonic() + _START_S
        while not answers(SYSTEM):
            if time.monotonic() > deadline:
                raise Transient("hypervisor", f"libvirtd does not answer; see {directory / 'libvirt'}")
            time.sleep(0.05)
    return SYSTEM


def answers(uri: str) -> bool:
    """Whether a daemon listens there and has a QEMU driver."""
    if uri == SYSTEM and not Path("/run/systemd/system").exists() and not (_SOCKETS / "libvirt-sock").exists():
        return False
    virsh = shutil.which("virsh", path=_PATH)
    if virsh is None:
        return False
    try:
        done = subprocess.run(
            [virsh, "-q", "-c", uri, "list", "--all", "--uuid"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def qemu_user(uri: str) -> pwd.struct_passwd | None:
    """Who QEMU runs as under a system daemon; None = whoever we are."""
    if uri != SYSTEM:
        return None
    for name in QEMU_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def kvm_open_to(user: pwd.struct_passwd | None) -> bool:
    """Whether that user may open /dev/kvm, by its permissions; None = ourselves."""
    try:
        node = os.stat("/dev/kvm")
    except OSError:
        return False
    if user is None:
        return os.access("/dev/kvm", os.R_OK | os.W_OK)
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    if user.pw_uid == node.st_uid:
        need = stat.S_IRUSR | stat.S_IWUSR
    elif node.st_gid in groups:
        need = stat.S_IRGRP | stat.S_IWGRP
    else:
        need = stat.S_IROTH | stat.S_IWOTH
    return node.st_mode & need == need


def may_lend_kvm(directory: Path) -> bool:
    """Whether a daemon that we start can give QEMU's user a /dev/kvm of its own; the host's stays as it is."""
    if os.geteuid() != 0 or qemu_user(SYSTEM) is None or Path("/run/systemd/system").exists() or answers(SYSTEM):
        return False
    try:
        node = lend_kvm(directory)
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
    except OSError:  # not allowed here, or the file system takes no devices
        return False
    finally:
        (directory / "libvirt" / "kvm").unlink(missing_ok=True)
    return True


def lend_kvm(directory: Path) -> Path:
    """A node for the same device that QEMU's group may open."""
    node = directory / "libvirt" / "kvm"
    node.parent.mkdir(parents=True, exist_ok=True)
    node.unlink(missing_ok=True)
    os.mknod(node, stat.S_IFCHR | 0o600, os.stat("/dev/kvm").st_rdev)
    user = qemu_user(SYSTEM)
    os.chown(node, 0, user.pw_gid if user else 0)
    node.chmod(0o660)
    return node


def stop(directory: Path) -> list[str]:
    """End the daemons that `ensure_daemon` started for this DIR, unless guests run under them."""
    directory = directory.resolve()
    running = {name: pid for name in ("libvirtd", "virtlogd") if (pid := _pid(directory, name))}
    if not running:
        return []
    if "libvirtd" in running:
        listed = subprocess.run(
            ["virsh", "-q", "-c", SYSTEM, "list", "--uuid"], capture_output=True, timeout=20, check=False
        )
        if listed.stdout.strip():
            return ["libvirtd kept: guests of others run under it"]
    said = []
    for name, pid in running.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while _pid(directory, name) and time.monotonic() < deadline:
            time.sleep(0.05)
        said.append(f"{name} (pid {pid})")
    return said


def ensure_log_daemon(directory: Path) -> None:
    """virtlogd runs: libvirtd of ours starts no guest without it. Elsewhere it is the machine's business."""
    home = directory.resolve() / "libvirt"
    if os.geteuid() != 0 or Path("/run/systemd/system").exists() or _pid(directory.resolve(), "virtlogd"):
        return
    home.mkdir(parents=True, exist_ok=True)
    (home / "virtlogd.conf").write_text("max_size = 2097152\nmax_backups = 3\n")
    # One that somebody else runs holds its socket, and ours then ends with an error: just as well.
    with contextlib.suppress(Transient):
        _spawn(["virtlogd", "-d", "-f", str(home / "virtlogd.conf"), "-p", str(home / "virtlogd.pid")])


def _start(directory: Path) -> None:
    home = directory / "libvirt"
    home.mkdir(parents=True, exist_ok=True)
    for binary in ("libvirtd", "virtlogd", "unshare"):
        if shutil.which(binary, path=_PATH) is None:
            raise Transient("hypervisor", f"{binary} is not installed")
    (home / "libvirtd.conf").write_text(
        'unix_sock_group = "root"\nunix_sock_rw_perms = "0700"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n'
        f'log_outputs = "3:file:{home / "libvirtd.log"}"\n'
    )
    ensure_log_daemon(directory)
    settings = ["seccomp_sandbox = 1"]
    binds = [(home / "qemu.conf", Path("/etc/libvirt/qemu.conf"))]
    if Path("/dev/kvm").exists() and not kvm_open_to(qemu_user(SYSTEM)):
        binds.append((_kvm_of_daemon(directory), Path("/dev/kvm")))
    # libvirt can't rebuild a guest's own /dev around a bound file.
    if len(binds) > 1 or not _namespaces_work():
        settings.append("namespaces = []")
    if not _cgroups_writable():
        settings.append("cgroup_controllers = []")
    (home / "qemu.conf").write_text("\n".join(settings) + "\n")
    daemon = [sys.executable, "-S", "-I", reaper.__file__]
    daemon += ["libvirtd", "-f", str(home / "libvirtd.conf"), "-p", str(home / "libvirtd.pid")]
    script = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 77; shift 2; done; shift; exec "$@"'
    pairs = [str(p) for pair in binds if pair[1].exists() for p in pair]
    try:
        _spawn(["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh", *pairs, "--", *daemon])
    except Transient as error:
        # libvirt's system mode itself needs the same right, to note the owners of disks.
        raise Transient(
            "hypervisor",
            f"{error.message}: libvirtd needs CAP_SYS_ADMIN here; grant it, or run kilonova as a plain user",
        ) from error


def _kvm_of_daemon(directory: Path) -> Path:
    from kilonova.compute.virt.libvirt import probe

    verdict = probe.read(directory)
    if verdict is not None and verdict.virt_type == "kvm":
        return lend_kvm(directory)
    closed = directory / "libvirt" / "no-kvm"
    closed.touch()
    closed.chmod(0)
    return closed


def _spawn(command: list[str]) -> None:
    try:
        done = _run(command)
    except subprocess.TimeoutExpired as error:
        raise Transient("hypervisor", f"{command[0]} does not come back") from error
    if done.returncode:
        raise Transient("hypervisor", f"{command[0]}: {done.stderr.strip()[-400:]}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={"PATH": _PATH, "HOME": "/root", "LC_ALL": "C"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        timeout=60,
        check=False,
        text=True,
    )


def _namespaces_work() -> bool:
    """Whether a process that enters a mount namespace finds itself at the same root: not so in a chroot."""
    try:
        seen = _run(["nsenter", "--mount=/proc/self/ns/mnt", "stat", "-c", "%d:%i", "/"])
    except (OSError, subprocess.TimeoutExpired):
        return False
    here = os.stat("/")
    return seen.stdout.strip() == f"{here.st_dev}:{here.st_ino}"


def _cgroups_writable() -> bool:
    root = Path("/sys/fs/cgroup")
    mounts = [root, *(root.iterdir() if root.is_dir() else ())]
    return not any(os.statvfs(m).f_flag & os.ST_RDONLY for m in mounts[1:] or mounts if m.is_dir())


def _pid(directory: Path, name: str) -> int | None:
    """The pid in our file, if that process still is the daemon we started."""
    try:
        pid = int((directory / "libvirt" / f"{name}.pid").read_text())
        told = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(directory / "libvirt" / f"{name}.conf").encode() in told else None


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One cloud at a time starts daemons on this machine."""
    with open("/run/kilonova-libvirt.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
