"""What runs first inside the sandbox: it gives up rights and room, then runs the code. Standard library only.

Run as `python -I jail.py UID MEMORY SECONDS PROCESSES FILE_BYTES`; the code comes on file descriptor 3. The sandbox
starts it as root only where that is the way to another user, so the first thing is to become that user for good.
"""

import contextlib
import os
import resource
import sys
import traceback
from types import TracebackType

MEMORY_STATUS = 120
"""Exit status of code that ran out of memory."""


def main() -> None:
    uid, memory, seconds, processes, file_bytes = (int(argument) for argument in sys.argv[1:6])
    with open(3, encoding="utf-8") as file:
        code = file.read()
    if os.getuid() == 0 and uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, processes),
    ):
        with contextlib.suppress(ValueError, OSError):  # a system without it, or a tighter limit that is there already
            resource.setrlimit(limit, (value, value))
    sys.argv[:] = ["code"]
    sys.exit(_run(code))


def _run(code: str) -> int:
    """The exit status: 0, 1 after an exception, the code's own, or MEMORY_STATUS."""
    try:
        exec(compile(code, "code", "exec"), {"__name__": "__main__"})
    except MemoryError:
        return MEMORY_STATUS
    except SystemExit as exit_:
        if isinstance(exit_.code, int) or exit_.code is None:
            return exit_.code or 0
        sys.stderr.write(f"{exit_.code}\n")
        return 1
    except BaseException as error:
        traceback.print_exception(error.with_traceback(_below(error)))
        return 1
    return 0


def _below(error: BaseException) -> TracebackType | None:
    """The traceback without this file's own lines."""
    return error.__traceback__.tb_next if error.__traceback__ else None


main()
