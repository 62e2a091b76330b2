"""Cassettes: what an engine answered, kept in a file, so that a test asks a real model once and never again.

A question is known by all that led to it: the chain of operations that made its context, and its own arguments. The
file holds the question as a hash, and the answer. A question asked again is answered in the order of the answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TextIO

import anyio

from .. import errors
from ..errors import CapabilityError, CassetteError, DataError, EngineError, PlaitError, TransientEngineError
from .base import Capabilities, Context, Engine, Generation, Member, Prompt, TeamStream, Teamwork
from .cassette_context import Answer, CassetteContext, CassetteGrammar, context_answer, plain

VERSION = 1


class CassetteEngine:
    """An engine that records another, or that answers from what was recorded: `record` and `replay`.

    Teams are not recorded. An error that the engine raised is raised again.
    """

    def __init__(self, path: Path, name: str, capabilities: Capabilities, inner: Engine | None, tape: Tape) -> None:
        self._path = path
        self._name = name
        self._capabilities = capabilities
        self._tape = tape
        self.inner = inner

    @classmethod
    def record(cls, engine: Engine, path: str | Path) -> Self:
        """Ask `engine`, and write its answers to a new file. Closing this closes the engine."""
        capabilities = _without_teams(engine.capabilities)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = Path(path).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115
        file.write(json.dumps({"cassette": VERSION, "engine": engine.name, "capabilities": plain(capabilities)}) + "\n")
        return cls(Path(path), engine.name, capabilities, engine, Tape(file, {}))

    @classmethod
    def replay(cls, path: str | Path) -> Self:
        """Answer from a file. Raises DataError if it can't be read."""
        try:
            lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
            if lines[0]["cassette"] != VERSION:
                raise DataError(f"cassette {path} is of version {lines[0]['cassette']}; this plait reads {VERSION}")
            values = lines[0]["capabilities"].items()
            listed: dict[str, Any] = {
                name: frozenset(value) if isinstance(value, list) else value for name, value in values
            }
            capabilities = replace(Capabilities(), **listed)
            answers: dict[str, list[Answer]] = {}
            for line in lines[1:]:
                answers.setdefault(line["question"], []).append(line["answer"])
            return cls(Path(path), lines[0]["engine"], capabilities, None, Tape(None, answers))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"cassette {path} can't be read: {type(error).__name__} {error}; record it anew") from error

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def start(self, prompt: Prompt, *, adapter: str = "") -> CassetteContext:
        inner = self.inner

        async def ask() -> Context:
            assert inner is not None
            return await inner.start(prompt, adapter=adapter)

        return await self.context("", ["start", plain(prompt), adapter], ask)

    def stream_team(self, members: Sequence[Member], work: Teamwork) -> TeamStream:
        raise CapabilityError("teams are not recorded in cassettes; run them on the engine, or on a scripted one")

    async def team(self, members: Sequence[Member], work: Teamwork) -> list[Generation]:
        async with self.stream_team(members, work) as stream:
            return stream.results

    async def aclose(self) -> None:
        self._tape.close()
        if self.inner is not None:
            await self.inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # ---- for contexts

    async def context(
        self, before: str, question: Sequence[Any], ask: Callable[[], Awaitable[Context]]
    ) -> CassetteContext:
        """The context that an operation makes."""
        made: list[Context] = []

        async def perform() -> Answer:
            made.append(await ask())
            return context_answer(made[0])

        key, answer = await self.answer(before, question, perform)
        return CassetteContext(self, key, answer, made[0] if made else None)

    async def answer(
        self, before: str, question: Sequence[Any], perform: Callable[[], Awaitable[Answer]]
    ) -> tuple[str, Answer]:
        """The question's key, and its answer: asked and kept, or found. Raises what was raised."""
        key = _hash(before, question)
        if self.inner is None:
            await anyio.lowlevel.checkpoint()
            return key, self._found(key, question)
        try:
            answer = await perform()
        except PlaitError as error:
            self._tape.keep(key, _error_answer(error))
            raise
        self._tape.keep(key, answer)
        return key, answer

    def force(self, grammar: CassetteGrammar, text: str) -> CassetteGrammar:
        """The grammar's state after a text was inserted; asked and kept, or found. Raises what was raised."""
        question = ["force", grammar.key, text]
        key = _hash("", question)
        if self.inner is None:
            return CassetteGrammar(self, [*grammar.key, text], None, self._found(key, question)["complete"])
        assert grammar.inner is not None
        try:
            inner = grammar.inner.force(text)
        except PlaitError as error:
            self._tape.keep(key, _error_answer(error))
            raise
        self._tape.keep(key, {"complete": inner.complete})
        return CassetteGrammar(self, [*grammar.key, text], inner, inner.complete)

    def _found(self, key: str, question: Sequence[Any]) -> Answer:
        found = self._tape.find(key)
        if found is None:
            raise CassetteError(
                f"cassette {self._path} holds no answer to '{question[0]}': what was asked before or its arguments "
                "have changed since it was recorded; record it anew"
            )
        if "error" in found:
            raise _error_of(found)
        return found


@dataclass(slots=True)
class Tape:
    """Answers by question: written to a file as they come, or read from one."""

    file: TextIO | None
    answers: dict[str, list[Answer]]

    def keep(self, key: str, answer: Answer) -> None:
        if self.file is None or self.file.closed:
            raise CassetteError("this cassette is closed; keep its engine open until the last question")
        self.file.write(json.dumps({"question": key, "answer": answer}, ensure_ascii=False) + "\n")

    def find(self, key: str) -> Answer | None:
        """The next answer to a question; the last one serves for all that follow."""
        answers = self.answers.get(key)
        if not answers:
            return None
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _without_teams(capabilities: Capabilities) -> Capabilities:
    return replace(capabilities, team=frozenset())


def _hash(before: str, question: Sequence[Any]) -> str:
    text = json.dumps([before, *question], ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _error_answer(error: PlaitError) -> Answer:
    seconds = getattr(error, "retry_after", 0.0)
    return {"error": type(error).__name__, "message": str(error), "retry_after": seconds}


def _error_of(answer: Answer) -> PlaitError:
    kind = getattr(errors, answer["error"], EngineError)
    error: PlaitError = kind(answer["message"]) if issubclass(kind, PlaitError) else EngineError(answer["message"])
    if isinstance(error, TransientEngineError):
        error.retry_after = answer.get("retry_after", 0.0)
    return error
