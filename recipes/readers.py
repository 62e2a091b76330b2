"""Readers: threads that read what a search finds, a document each, on forks of the conversation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..engines import Context, Message
from ..orchestrator import Outcome, Scope
from ..tools import Tool, render
from .prompt import render as prompt

DOCUMENT = 1024
"""Tokens of a document that its reader is shown (HybridDeepSearcher cuts documents at 1,024)."""
NOTHING = "nothing"
"""What a reader says of a document that doesn't help."""


@dataclass(slots=True)
class Readers:
    """Makes the calls of the tool `tool`, and gives what readers say of the documents in place of these.

    A search's first `most` documents are read side by side as soon as they are there, while the turn goes on: each
    reader goes on from `context`, the conversation as it was when the turn began, so that all share its K/V. What a
    reader says has `tokens` tokens at most. A result that is no list is one document.
    """

    tool: str
    most: int
    tokens: int
    context: Context | None = None

    def begin(self, scope: Scope, tool: Tool, arguments: Mapping[str, Any]) -> Callable[[], Awaitable[Outcome]]:
        """Open the node of a search; what this gives makes it, in a task of its own."""
        query = str(arguments.get("query", ""))
        return partial(self._search, scope.grow("search", query), tool, arguments, query, self.context)

    async def _search(
        self, scope: Scope, tool: Tool, arguments: Mapping[str, Any], query: str, context: Context | None
    ) -> Outcome:
        with scope:
            found = (await scope.settle([(tool, arguments)]))[0]
            documents = found.value if isinstance(found.value, list) else [found.value]
            if found.error is not None or context is None or not documents:
                return found
            readers = [
                (f"document {number}", partial(self._read, context=context, query=query, document=render(document)))
                for number, document in enumerate(documents[: self.most], 1)
            ]
            said = [text for text in await scope.gather(readers) if text.strip(" .").casefold() not in ("", NOTHING)]
            scope.finish(said)
            return replace(found, text=" ".join(said) or NOTHING)

    async def _read(self, scope: Scope, *, context: Context, query: str, document: str) -> str:
        shown = await scope.shortened(document, DOCUMENT)
        asked = prompt("read_document", query=query, document=shown)
        written = await scope.generate(
            await scope.extend(context, [Message("user", asked)]), max_tokens=self.tokens, stop=["\n"]
        )
        return " ".join(written.text.split())
