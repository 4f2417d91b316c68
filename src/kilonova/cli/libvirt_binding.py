"""Makes `import libvirt` work in this Python.

Why: the binding is published as source only, and must fit the libvirt that the system has; so the
distribution's own build is used when it fits this interpreter, and ours is made from source otherwise.
What always holds: nothing but the binding's own files is taken from the distribution's packages; a link stays
only after another process has imported the binding through it; a source build is the locked one.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import kilonova
from kilonova.cli import environment, os_packages
from kilonova.cli.errors import CliError
from kilonova.cli.progress import Phase

DISTRIBUTION = Path("/usr/lib/python3/dist-packages")
SECTION = "libvirt"
TRY = "import libvirt; libvirt.getVersion()"


def is_importable() -> bool:
    """Whether a fresh process of this Python imports the binding and its libvirt answers."""
    found = subprocess.run([sys.executable, "-I", "-c", TRY], capture_output=True, check=False)
    return found.returncode == 0


def site_packages() -> Path:
    """Return where this Python looks for compiled third-party modules."""
    return Path(sysconfig.get_paths()["platlib"])


def distribution_files() -> list[Path]:
    """Return the distribution's binding for this interpreter's ABI, or nothing."""
    compiled = list(DISTRIBUTION.glob(f"libvirtmod*.{sysconfig.get_config_var('SOABI')}.so"))
    if not any(path.name.startswith("libvirtmod.") for path in compiled):
        return []
    return [*compiled, *DISTRIBUTION.glob("libvirt*.py")]


def link_distribution() -> bool:
    """Link the distribution's binding into this environment; False (nothing left) when it doesn't work."""
    files = distribution_files()
    links = [site_packages() / path.name for path in files]
    for path, link in zip(files, links, strict=True):
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(path)
    if links and is_importable():
        return True
    for link in links:
        link.unlink()
    return False


def distribution_python() -> str | None:
    """Return the SOABI of the distribution's own python3, or None when it has none."""
    command = ["/usr/bin/python3", "-I", "-c", "import sysconfig; print(sysconfig.get_config_var('SOABI'))"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def build_needs() -> Iterator[os_packages.Need]:
    """What compiling the binding takes from the operating system."""
    yield os_packages.by_programs("building libvirt's binding", ("gcc", "libc6-dev"), ("gcc",))
    yield os_packages.by_programs("building libvirt's binding", ("pkg-config",), ("pkg-config",))
    headers = ("/usr/include/libvirt/libvirt.h",)
    yield os_packages.by_files("building libvirt's binding", ("libvirt-dev",), headers)
    if sys.base_prefix == "/usr":
        own = (str(Path(sysconfig.get_paths()["include"]) / "Python.h"),)
        packages = (f"python3.{sys.version_info.minor}-dev",)
        yield os_packages.by_files("building libvirt's binding", packages, own)


def build() -> None:
    """Compile the locked binding against the installed libvirt and install it in this environment."""
    os_packages.ensure(list(build_needs()))
    root = Path(kilonova.__file__).parents[2]
    if not (root / environment.LOCK_FILE).exists():
        command = [sys.executable, "-I", "-m", "pip", "install", "--no-input", "libvirt-python"]
        with Phase("Building libvirt's binding"):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CliError(f"can't build libvirt's binding:\n  {done.stderr.strip()[-800:]}")
        return
    environment.build_from_source(root, Path(sys.prefix), SECTION, "libvirt-python")


def ensure() -> None:
    """See that `import libvirt` works in this process, taking or building the binding if need be.

    Raises CliError, and MissingPackagesError when operating-system packages lack that can't be installed here.
    """
    try:
        importlib.import_module("libvirt")
        return
    except ImportError:
        pass
    if sys.prefix == sys.base_prefix:
        raise CliError("this Python has no libvirt module, and isn't a virtual environment to put it in")
    if not link_distribution():
        if distribution_python() == sysconfig.get_config_var("SOABI") and os_packages.is_debian():
            names = (str(DISTRIBUTION / "libvirt.py"),)
            os_packages.ensure([os_packages.by_files("libvirt's binding", ("python3-libvirt",), names)])
        if not link_distribution():
            build()
            if not is_importable():
                raise CliError("libvirt's binding was built but can't be imported")
    importlib.invalidate_caches()
    importlib.import_module("libvirt")
