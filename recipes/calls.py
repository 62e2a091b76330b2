"""The tool calls of one conversation: begun when their text is complete, shared where they are equal, paired by id."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ..errors import ToolArgumentError, ToolError, UnknownNameError
from ..orchestrator import Outcome, Scope
from ..tools import Tool, ToolBox
from .formats import REFERENCE, Result, ToolCall
from .readers import Readers


@dataclass(slots=True, eq=False)
class _Pending:
    """A call under way: its outcome, or the error that ends the run."""

    outcome: Outcome | None = None
    error: Exception | None = None
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def wait(self) -> Outcome:
        await self.ended.wait()
        if self.error is not None:
            raise self.error
        assert self.outcome is not None
        return self.outcome

    async def make(self, job: Callable[[], Awaitable[Outcome]]) -> None:
        try:
            self.outcome = await job()
        except Exception as error:
            self.error = error
        finally:
            self.ended.set()

    def refuse(self, error: ToolError | UnknownNameError) -> None:
        """It was never made."""
        named = error if isinstance(error, ToolError) else ToolArgumentError(str(error))
        self.outcome = Outcome(None, named, 0.0, f"error: {error}")
        self.ended.set()


class Calls:
    """Makes calls side by side, under the caps; use `calls_of`.

    A call that equals one of the same turn or an earlier one is not made again: it has that one's result, if its tool
    is idempotent (any tool, with `repeats`) and not named in `fresh`, and if it has not failed in an earlier turn. Of a
    result the model is shown `observation` tokens at most (0: all). After `most` calls (0: no bound) none is made any
    more: they are errors, and `spent` is true. `readers` make the calls of their tool.
    """

    def __init__(
        self,
        box: ToolBox,
        group: TaskGroup,
        *,
        repeats: bool,
        observation: int,
        fresh: Collection[str],
        most: int,
        readers: Readers | None,
    ) -> None:
        self.spent = False
        self._box = box
        self._group = group
        self._repeats = repeats
        self._observation = observation
        self._fresh = frozenset(fresh)
        self._most = most
        self._made = 0
        self._readers = readers
        self._turn: list[tuple[ToolCall, str, _Pending]] = []
        self._record: dict[str, _Pending] = {}
        self._by_id: dict[str, _Pending] = {}
        self._spare: dict[str, list[_Pending]] = {}
        self._late: dict[_Pending, Callable[[], None]] = {}

    def begin(self, scope: Scope, call: ToolCall) -> None:
        """Make a call at once, in a node of the scope's. Whatever is wrong with it is its result.

        In a run with a journal a call with effects (its tool is not idempotent, or a person must approve it) is made
        when the turn is over and recorded: a run that is resumed then knows why it was made.
        """
        key = _key(call)
        pending = self._known(scope, call, key)
        if pending is None:
            pending = _Pending()
            try:
                self._make(scope, call, key, pending)
            except (ToolError, UnknownNameError) as error:
                pending.refuse(error)
        self._turn.append((call, key, pending))

    async def results(self, scope: Scope) -> list[Result]:
        """The results of the calls that were begun since they were last asked for, in the order of the calls."""
        for start in self._late.values():
            start()
        self._late.clear()
        turn, self._turn, self._spare = self._turn, [], {}
        self._by_id.update((call.id, pending) for call, _, pending in turn)
        outcomes = [await pending.wait() for _, _, pending in turn]
        for (_, key, pending), outcome in zip(turn, outcomes, strict=True):
            if outcome.error is not None and self._record.get(key) is pending:
                del self._record[key]  # it may be tried again
        texts = [_clean(outcome.text) for outcome in outcomes]
        if self._observation:
            texts = [await scope.shortened(text, self._observation) for text in texts]
        return [Result(call, text) for (call, _, _), text in zip(turn, texts, strict=True)]

    def rewind(self) -> None:
        """The turn is written again: what was begun in it is there for equal calls, whatever their tool."""
        for call, key, pending in self._turn:
            if self._late.pop(pending, None) is not None:
                self._made -= 1
                self._record.pop(key, None)
                pending.refuse(ToolError("it was never made: its turn was written again"))
            elif not _references(call.arguments):
                self._spare.setdefault(key, []).append(pending)
        self._turn.clear()

    # ---- parts

    def _known(self, scope: Scope, call: ToolCall, key: str) -> _Pending | None:
        """An equal call that answers this one."""
        if self._spare.get(key):
            return self._spare[key].pop(0)
        pending = self._record.get(key)
        if pending is not None:
            scope.emit("repeated", f"{call.name} was called so before; its result is given again")
        return pending

    def _make(self, scope: Scope, call: ToolCall, key: str, pending: _Pending) -> None:
        if call.error:
            raise ToolArgumentError(call.error)
        tool = self._box.get(call.name)
        if not isinstance(call.arguments, Mapping):
            tool.signature.check_arguments(call.arguments)
        waits = {id_: self._earlier(tool, id_) for id_ in _references(call.arguments)}
        known = partial(_resolved, tool, call.arguments, waits) if waits else None
        if self._most and self._made == self._most:
            self.spent = True
            raise ToolError(f"'{tool.name}' was not called: all {self._most} calls that were allowed have been made")
        self._made += 1
        if (self._repeats or tool.idempotent) and not waits and tool.name not in self._fresh:
            self._record[key] = pending
        start = partial(self._start, scope, tool, call, known, pending)
        if scope.journaled and (tool.approve or not tool.idempotent):
            self._late[pending] = start
        else:
            start()

    def _start(
        self,
        scope: Scope,
        tool: Tool,
        call: ToolCall,
        known: Callable[[], Awaitable[Mapping[str, Any]]] | None,
        pending: _Pending,
    ) -> None:
        if self._readers is not None and self._readers.tool == tool.name:
            self._group.start_soon(pending.make, self._readers.begin(scope, tool, call.arguments))
        else:
            self._group.start_soon(pending.make, scope.begin_call(tool, call.arguments, known=known))

    def _earlier(self, tool: Tool, id_: str) -> _Pending:
        turn = {call.id: pending for call, _, pending in self._turn}
        pending = turn.get(id_) or self._by_id.get(id_)
        if pending is None:
            raise ToolArgumentError(
                f"tool '{tool.name}' is to be given the result of call '{id_}', but no call before it has this id"
            )
        return pending


@asynccontextmanager
async def calls_of(
    box: ToolBox,
    *,
    repeats: bool = False,
    observation: int,
    fresh: Collection[str] = (),
    most: int = 0,
    readers: Readers | None = None,
) -> AsyncIterator[Calls]:
    """Calls of a conversation. Those under way are waited for at the block's end, and cancelled where it raises."""
    raised: Exception | None = None
    async with anyio.create_task_group() as group:
        try:
            yield Calls(box, group, repeats=repeats, observation=observation, fresh=fresh, most=most, readers=readers)
        except Exception as error:  # not raised in the group, which would wrap it
            raised = error
            group.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def _resolved(tool: Tool, arguments: Mapping[str, Any], waits: Mapping[str, _Pending]) -> Mapping[str, Any]:
    """The arguments with results in the place of references. Raises ToolError where one of them has none."""
    values: dict[str, Any] = {}
    for id_, pending in waits.items():
        outcome = await pending.wait()
        if outcome.error is not None:
            raise ToolError(f"tool '{tool.name}' was not called: call '{id_}', whose result it needs, has failed")
        values[id_] = outcome.value
    return {name: _filled(value, values) for name, value in arguments.items()}


def _references(value: Any) -> list[str]:
    """The ids that arguments refer to, in order."""
    if isinstance(value, Mapping):
        if set(value) == {REFERENCE} and isinstance(value[REFERENCE], str):
            return [value[REFERENCE]]
        return [id_ for inner in value.values() for id_ in _references(inner)]
    return [id_ for inner in value for id_ in _references(inner)] if isinstance(value, list) else []


def _filled(value: Any, results: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {REFERENCE} and isinstance(value[REFERENCE], str):
            return results[value[REFERENCE]]
        return {name: _filled(inner, results) for name, inner in value.items()}
    return [_filled(inner, results) for inner in value] if isinstance(value, list) else value


def _key(call: ToolCall) -> str:
    return json.dumps([call.name, call.arguments, call.error], sort_keys=True, default=str)


def _clean(text: str) -> str:
    """Without halves of surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()
