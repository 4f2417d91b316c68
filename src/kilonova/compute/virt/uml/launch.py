"""Becomes a User-Mode Linux kernel: `python -m kilonova.compute.virt.uml.launch KERNEL ARGS...`

Standard library only: it runs for a moment in an interpreter of its own. On CPUs with AMX the kernel of
Debian 12 panics at the first user process, since its buffer for extended registers is smaller than the
CPU's (PTRACE_SETREGSET answers EFAULT). There a seccomp filter tells it that the host has no such register set, and it
takes the older call. Only SSE state is then saved between threads of one guest process.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _EINVAL = 0x7FFF0000, 0x00050000 | 22
_X86_64, _PTRACE, _GETREGSET, _XSTATE = 0xC000003E, 101, 0x4204, 0x202


def hide_extended_registers() -> None:
    """ptrace(PTRACE_GETREGSET, _, NT_X86_XSTATE, _) = EINVAL, for this process and its children."""
    checks = ((4, _X86_64), (0, _PTRACE), (16, _GETREGSET), (32, _XSTATE))
    program = b""
    for index, (offset, value) in enumerate(checks):
        beyond = 2 * (len(checks) - index - 1) + 1  # to the last instruction: allow
        program += struct.pack("HBBI", _LOAD, 0, 0, offset) + struct.pack("HBBI", _EQUAL, 0, beyond, value)
    program += struct.pack("HBBI", _RETURN, 0, 0, _EINVAL) + struct.pack("HBBI", _RETURN, 0, 0, _ALLOW)
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "can't filter system calls")


def needs_hiding() -> bool:
    with open("/proc/cpuinfo") as cpus:
        return any(" amx_tile" in line for line in cpus if line.startswith("flags"))


if __name__ == "__main__":
    if needs_hiding():
        hide_extended_registers()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - that is what this is for
