"""Findings: what finished tasks found, by name, for when their text is out of sight (TIM and TIMRUN, 2025)."""

from __future__ import annotations

from difflib import get_close_matches

from ..errors import ToolError
from ..tools import Tool, tool

RECALL = "recall"
_SHOWN = 5
"""Names that an error lists."""


class Findings:
    """What the tasks of one run found. Names are told apart by their words; case and white space don't count."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[str, str]]] = {}

    def add(self, name: str, conclusion: str, result: str) -> None:
        """A task has finished: its conclusion, and the result of its tool ("" where it used none)."""
        self._known.setdefault(_key(name), []).append((conclusion, result))

    def get(self, name: str) -> list[tuple[str, str]]:
        """What tasks of that name found, in order. Raises ToolError that names the nearest ones."""
        found = self._known.get(_key(name))
        if found is None:
            near = get_close_matches(_key(name), self._known, n=_SHOWN) or list(self._known)[-_SHOWN:]
            raise ToolError(f"no finished task is named '{name}'; some that are: {'; '.join(near) or 'none yet'}")
        return found

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()


def recall_from(findings: Findings) -> Tool[[str, bool], str]:
    """The tool `recall`, by which a model asks for what is out of its sight."""
    return tool(name=RECALL, idempotent=True)(_Recall(findings))


class _Recall:
    """What a task that you have finished found, though its text may be out of sight: its conclusion.

    Args:
        name: The task's thought.
        whole: The result of its tool, too.
    """

    # An object, not a function: what it knows belongs to one run, so that no cache of results may answer for it.

    __slots__ = ("_findings",)

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    async def __call__(self, name: str, whole: bool = False) -> str:
        found = self._findings.get(name)
        return "\n".join(f"{said} (result: {result})" if whole and result else said for said, result in found)


def _key(name: str) -> str:
    return " ".join(name.casefold().split())
