"""Embeddings: any engine's vectors of texts, for tools that search by meaning."""

from __future__ import annotations

from collections.abc import Sequence

from ..engines import Engine
from ..engines.base import Pooling
from ..errors import CapabilityError
from ..tools.files import Embed


def embed_by(engine: Engine, *, pooling: Pooling = "mean") -> Embed:
    """What makes vectors of texts by an engine, for `file_search(folder, embed=…)`.

    Raises CapabilityError for an engine that can't.
    """
    if not engine.capabilities.embed:
        raise CapabilityError(f"engine '{engine.name}' has no 'embed'; use one that has, such as 'local'")

    async def vector(text: str) -> list[float]:
        context = await engine.start(text or " ")
        try:
            return await context.embed(pooling=pooling)
        finally:
            context.release()

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        return [await vector(text) for text in texts]

    return embed
