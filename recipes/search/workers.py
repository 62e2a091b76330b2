"""Workers: several processes on one study, on this machine or on a cluster's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from ...errors import MissingExtraError, PlaitError

_PROGRAM = "from plait.cli import main; main()"


def run_here(arguments: Sequence[Sequence[str]]) -> None:
    """Run `plait` with each of these arguments, all at once, to their ends. Raises PlaitError for one that fails."""
    processes = [
        subprocess.Popen([sys.executable, "-P", "-c", _PROGRAM, *each], stdout=subprocess.DEVNULL) for each in arguments
    ]
    try:
        states = [process.wait() for process in processes]
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    _check(states)


def run_on_cluster(arguments: Sequence[Sequence[str]]) -> None:
    """The same as tasks of the Ray cluster that $RAY_ADDRESS names, on machines where plait is installed."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("workers on a cluster (package 'ray')", "ray") from error

    def work(each: Sequence[str]) -> int:
        return subprocess.run([sys.executable, "-P", "-c", _PROGRAM, *each], stdout=subprocess.DEVNULL).returncode

    ray.init(address="auto", ignore_reinit_error=True)
    task = ray.remote(work)
    _check(ray.get([task.remote(list(each)) for each in arguments]))


def _check(states: Sequence[int]) -> None:
    failed = [f"{place} with status {state}" for place, state in enumerate(states, 1) if state]
    if failed:
        raise PlaitError(f"of {len(states)} workers these failed: {', '.join(failed)}; what they found is in the study")
