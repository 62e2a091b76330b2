"""Kinds of engines: how each is named, what it needs, and what it can do at most, known before one is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from types import MappingProxyType

from ..errors import UnknownNameError
from .base import Capabilities, Layout

_EVERY_GRAMMAR = frozenset({"JsonSchema", "Regex", "Choice", "Lark", "Ebnf"})
_EVERY_LAYOUT: frozenset[Layout] = frozenset({"contiguous", "interleaved", "combined", "tokenwise"})

LOCAL = Capabilities(
    shared_prefix=True,
    score=True,
    grammars=_EVERY_GRAMMAR,
    grammar_states=True,
    prune=frozenset({"exact", "shift"}),
    splice=frozenset({"exact", "shift"}),
    team=_EVERY_LAYOUT,
    logprobs=True,
    embed=True,
    adapters=True,
)
TRANSFORMERS = replace(LOCAL, embed=False)
SCRIPTED = Capabilities(
    shared_prefix=True,
    grammars=_EVERY_GRAMMAR,
    grammar_states=True,
    prune=frozenset({"exact", "shift"}),
    splice=frozenset({"exact", "shift"}),
    team=_EVERY_LAYOUT,
)
OPENAI = Capabilities(logprobs=True, grammars=frozenset({"JsonSchema", "Choice"}))
VLLM = Capabilities(
    shared_prefix=True,
    score=True,
    grammars=_EVERY_GRAMMAR,
    prune=frozenset({"exact"}),
    splice=frozenset({"exact"}),
    logprobs=True,
    adapters=True,
)
SGLANG = Capabilities(
    shared_prefix=True,
    score=True,
    grammars=_EVERY_GRAMMAR - {"Lark"},
    prune=frozenset({"exact"}),
    splice=frozenset({"exact"}),
    logprobs=True,
    adapters=True,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What engines of one kind have in common. `offers` is what one can do at most: a model, a server or an option may
    take some of it away, and says so when it is opened. `package` is what has to be there, `extra` what installs it."""

    name: str
    forms: tuple[str, ...]
    says: str
    offers: Capabilities
    package: str = ""
    extra: str = ""
    alone: bool = False
    """Whether the kind's name is an engine's by itself."""
    made_of_others: bool = False
    """Whether what it can do is what those in its table all can."""

    @property
    def installed(self) -> bool:
        return not self.package or find_spec(self.package) is not None

    @property
    def install(self) -> str:
        """The command that installs what it needs; empty for what comes with plait."""
        return f"pip install 'plait[{self.extra}]'" if self.extra else ""


_KINDS = (
    Kind(
        "local",
        ("local", "local:MODEL_DIR"),
        "the engine of our own, with one K/V pool; by itself with the model that comes with plait",
        LOCAL,
        "torch",
        "local",
        alone=True,
    ),
    Kind(
        "transformers",
        ("transformers:MODEL_DIR",),
        "the same with a model of any family that transformers has and views can serve",
        TRANSFORMERS,
        "transformers",
        "breadth",
    ),
    Kind("scripted", ("scripted:FILE.json",), "answers from a script, for tests", SCRIPTED),
    Kind(
        "openai",
        ("openai:MODEL", "openai:MODEL@URL"),
        "a server that speaks OpenAI's protocol; without a URL that of OPENAI_BASE_URL, or OpenAI's",
        OPENAI,
        "openai",
        "openai",
    ),
    Kind(
        "vllm",
        ("vllm:URL", "vllm:MODEL@URL", "vllm:MODEL_DIR"),
        "a vLLM server, or one of its own: that takes 'plait[vllm]', or $PLAIT_VLLM_PYTHON",
        VLLM,
        "httpx",
        "openai",
    ),
    Kind(
        "sglang",
        ("sglang:URL", "sglang:MODEL_DIR"),
        "an SGLang server, or one of its own: that takes 'plait[sglang]', or $PLAIT_SGLANG_PYTHON",
        SGLANG,
        "httpx",
        "openai",
    ),
    Kind(
        "roles",
        ("roles:FILE.json",),
        "several engines, each for the roles that a table names",
        LOCAL,
        made_of_others=True,
    ),
)
KINDS = MappingProxyType({kind.name: kind for kind in _KINDS})


def kind_of(name: str) -> Kind:
    """The kind of an engine by its name, such as `local:MODEL_DIR`. Raises UnknownNameError."""
    found, _, argument = name.partition(":")
    kind = KINDS.get(found)
    if kind is None or not (argument or kind.alone):
        shown = re.sub(r"//[^/]*@", "//…@", name)  # what stands there may be a key
        forms = ", ".join(form for one in _KINDS for form in one.forms)
        raise UnknownNameError(f"unknown engine '{shown}'; known: {forms}")
    return kind


def offers_of(name: str) -> Capabilities:
    """What an engine of that name can do at most, without opening it. Raises UnknownNameError, DataError."""
    kind = kind_of(name)
    if not kind.made_of_others:
        return kind.offers
    from .roles import common, read_roles

    return common([offers_of(engine) for engine in read_roles(name.partition(":")[2]).values()])


def able(need: str) -> tuple[str, ...]:
    """The kinds that offer a capability."""
    return tuple(kind.name for kind in _KINDS if need in kind.offers.offered and not kind.made_of_others)


def capability_table() -> str:
    """What each kind can do at most, as a Markdown table."""
    shown = [kind for kind in _KINDS if not kind.made_of_others]
    rows = [("", *(kind.name for kind in shown)), *_rows([kind.offers for kind in shown])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _rows(offers: Sequence[Capabilities]) -> Iterator[tuple[str, ...]]:
    """A row for each field; the window is a model's."""
    for field in fields(Capabilities):
        values = [getattr(one, field.name) for one in offers]
        if field.name != "window":
            yield (field.name.replace("_", " "), *map(_cell, values))


def _cell(value: bool | frozenset[str]) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return "all" if value in (_EVERY_GRAMMAR, _EVERY_LAYOUT) else ", ".join(sorted(value))
