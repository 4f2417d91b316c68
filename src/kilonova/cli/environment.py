"""Makes the launcher's virtual environments from requirements.lock.

Why: a checkout must run with nothing but a stock Python. What always holds: an environment that a command can
see is whole, because it's made beside its place and renamed into it; one that was stopped half-way is made
again; two first calls at once make it once. Only the lock's hashes are installed, from whatever index the
user's own pip settings name. Runs on the standard library alone, under the Python that shall be its base.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kilonova.cli import os_packages
from kilonova.cli.errors import CliError
from kilonova.cli.progress import Phase

LOCK_FILE = "requirements.lock"
STAMP = "kilonova.stamp"
ADDING = "kilonova.adding"
SECTION = re.compile(r"^# \[(\w+)\]\n", re.MULTILINE)


def read_lock(root: Path) -> dict[str, str]:
    """Return the lock file's sections by name, each a text of pip requirements with hashes."""
    parts = SECTION.split((root / LOCK_FILE).read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def requirements(lock: dict[str, str], sections: Sequence[str]) -> dict[str, str]:
    """Return {package: its block of the lock} for `sections` together, each package once."""
    blocks: dict[str, str] = {}
    for section in sections:
        for block in re.split(r"\n(?=\S)", lock[section].strip()):
            blocks.setdefault(block.split("==")[0], block)
    return blocks


def digest(lock: dict[str, str], sections: Sequence[str]) -> str:
    """Return the SHA-256 (hex) of what `sections` say now."""
    return hashlib.sha256("".join(f"[{name}]{lock[name]}" for name in sorted(sections)).encode()).hexdigest()


def write_stamp(root: Path, folder: Path, sections: Sequence[str], said: str) -> None:
    """Record what `folder` holds. The launcher reads the first three lines; keep the two in step."""
    lock = (root / LOCK_FILE).stat()
    python = os.path.realpath(folder / "bin" / "python")
    lines = (f"{lock.st_size} {lock.st_mtime_ns}", python, " ".join(sections), said)
    fresh = folder / f"{STAMP}.new"
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(folder / STAMP)


def read_stamp(folder: Path) -> tuple[str, tuple[str, ...], str] | None:
    """Return (real path of its Python, sections, their digest), or None when there's nothing to build on."""
    try:
        _, python, sections, said = (folder / STAMP).read_text().splitlines()
    except (OSError, ValueError):
        return None
    if os.path.realpath(folder / "bin" / "python") != python or not os.path.exists(python):
        return None
    return python, tuple(sections.split()), said


@contextlib.contextmanager
def only_one(root: Path, environment: str) -> Iterator[int]:
    """Hold the lock on making `environment`; yields its descriptor, which children inherit.

    A child that outlives us (we were killed) so keeps the lock until it's gone, and can't write into
    the next one's work.
    """
    try:
        descriptor = os.open(root / f"{environment}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise CliError(f"can't make {root / environment}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another kilonova that makes {environment}", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def ensure_venv_modules() -> None:
    """See that this Python can make environments: distributions split that off."""
    major, minor = sys.version_info[:2]
    need = os_packages.Need(
        "a Python virtual environment",
        (f"python{major}.{minor}-venv",),
        lambda: importlib.util.find_spec("ensurepip") is not None and _has_bundled_pip(),
    )
    if not need.present() and sysconfig.get_config_var("prefix") not in ("/usr", "/usr/local"):
        raise CliError(f"{sys.executable} has no ensurepip module; use a Python that has it")
    os_packages.ensure([need])
    importlib.invalidate_caches()


def _has_bundled_pip() -> bool:
    # Debian keeps the wheels apart, and a leftover folder must not pass for the module.
    try:
        import ensurepip

        return bool(ensurepip.version())
    except Exception:
        return False


def run_pip(folder: Path, words: Sequence[str], held: int, phase: Phase, total: int) -> None:
    """Run the environment's own pip, showing how many of `total` packages it has looked up."""
    command = [str(folder / "bin" / "python"), "-I", "-m", "pip", "--no-input", "--disable-pip-version-check"]
    printed: list[str] = []
    with subprocess.Popen(
        [*command, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(held,),
    ) as child:
        assert child.stdout is not None
        seen = 0
        for line in child.stdout:
            printed.append(line)
            seen += line.startswith(("Collecting ", "Requirement already", "Ignoring "))
            phase.step(min(seen, total), total, "installing" if line.startswith("Installing") else "")
    if child.returncode != 0:
        told = [line for line in "".join(printed).strip().splitlines() if "WARNING: Retrying" not in line]
        last = "\n  ".join(told[-6:])
        raise CliError(f"pip could not install the locked packages:\n  {last}")


@contextlib.contextmanager
def listed(wanted: dict[str, str]) -> Iterator[list[str]]:
    """Give pip's words that install exactly the blocks of `wanted` (see requirements())."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="kilonova-") as file:
        file.write("\n".join(wanted.values()) + "\n")
        file.flush()
        yield ["install", "--no-deps", "--require-hashes", "--progress-bar", "off", "-r", file.name]


def install(root: Path, folder: Path, sections: Sequence[str], held: int) -> None:
    """Install `sections` of the lock, and nothing else, into the environment at `folder`."""
    wanted = requirements(read_lock(root), sections)
    with listed(wanted) as words, Phase(f"Installing {len(wanted)} packages ({', '.join(sections)})") as phase:
        # A build from source would fetch build tools of its own choice.
        run_pip(folder, [*words, "--only-binary", ":all:"], held, phase, len(wanted))


def build_from_source(root: Path, folder: Path, section: str, package: str) -> None:
    """Compile `package` of the lock's `section` into `folder`, with that section's other packages as tools."""
    wanted = requirements(read_lock(root), [section])
    source = {package: wanted.pop(package)}
    with only_one(root, folder.name) as held, Phase(f"Building {package}") as phase:
        with listed(wanted) as words:
            run_pip(folder, [*words, "--only-binary", ":all:"], held, phase, 0)
        with listed(source) as words:
            run_pip(folder, [*words, "--no-build-isolation"], held, phase, 0)


def build(root: Path, folder: Path, sections: Sequence[str], held: int) -> None:
    """Make the environment at `folder` anew: beside it first, then in its place in one step."""
    aside = folder.with_name(folder.name + ".new")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        with Phase(f"Making {folder.name} with Python {sys.version.split()[0]}"):
            command = [sys.executable, "-I", "-m", "venv", str(aside)]
            made = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, pass_fds=(held,)
            )
        if made.returncode != 0:
            raise CliError(f"python -m venv failed:\n  {(made.stdout + made.stderr).strip()[-600:]}")
        install(root, aside, sections, held)
        # The package is used from src/ as it stands: a path relative to site-packages survives a move.
        packages = next(aside.glob("lib/python3.*/site-packages"))
        (packages / "kilonova.pth").write_text("../../../../src\n")
        _settle(aside, folder)
        write_stamp(root, aside, sections, digest(read_lock(root), sections))
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _settle(aside: Path, folder: Path) -> None:
    """Make the scripts in bin/ name the environment's final place."""
    for script in (aside / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        if os.fsencode(aside) in content:
            script.write_bytes(content.replace(os.fsencode(aside), os.fsencode(folder)))


def make(root: str, environment: str, sections: Sequence[str]) -> None:
    """See that `environment` holds `sections` of the lock file, ending the process with a clear line if not."""
    try:
        bring_up_to_date(Path(root), environment, sections)
    except CliError as error:
        print(f"kilonova: {error}", file=sys.stderr)
        raise SystemExit(error.code) from None
    except OSError as error:
        print(f"kilonova: can't make {environment}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("kilonova: interrupted; nothing half-made is left", file=sys.stderr)
        raise SystemExit(130) from None


def bring_up_to_date(root: Path, environment: str, sections: Sequence[str]) -> None:
    """Make, extend or renew the environment as the lock file says; does nothing when it fits already."""
    folder = root / environment
    with only_one(root, environment) as held:
        lock = read_lock(root)
        stamp = read_stamp(folder)
        if stamp is not None and not (folder / ADDING).exists():
            _, installed, said = stamp
            known = all(section in lock for section in installed)
            if known and said == digest(lock, installed):
                more = [section for section in sections if section not in installed]
                if more:
                    (folder / ADDING).touch()
                    install(root, folder, more, held)
                together = [*installed, *more]
                write_stamp(root, folder, together, digest(lock, together))
                (folder / ADDING).unlink(missing_ok=True)
                return
        before = stamp[1] if stamp is not None else ()
        ensure_venv_modules()
        wanted = list(dict.fromkeys([*sections, *(name for name in before if name in lock)]))
        build(root, folder, wanted, held)
        # Ready for a first start that compiles nothing, also for users who may not write here.
        compileall.compile_dir(root / "src" / "kilonova", quiet=2)
