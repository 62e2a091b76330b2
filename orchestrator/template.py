"""Prompt templates: text with values in braces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from ..errors import GraphError
from ..tools import render


@dataclass(frozen=True, slots=True)
class Template:
    """Pieces of text, each followed by a field (empty for none). `{{` and `}}` are braces."""

    source: str
    pieces: tuple[tuple[str, str], ...]

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for _, name in self.pieces if name))

    def fill(self, values: Mapping[str, object]) -> str:
        """The text with the values as a model reads them: strings as they are, all else as compact JSON."""
        return "".join(text + (render(values[name]) if name else "") for text, name in self.pieces)


def read_template(source: str, owner: str) -> Template:
    """Parse a template; `owner` names the node in messages. Raises GraphError."""
    try:
        parsed = list(Formatter().parse(source))
    except ValueError as error:
        raise GraphError(
            f"the template of {owner} can't be read: {error}; a brace in the text is written twice"
        ) from None
    for _, name, spec, conversion in parsed:
        if name is not None and (not name.isidentifier() or spec or conversion):
            shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise GraphError(
                f"the template of {owner} holds '{{{shown}}}', which is no plain name; "
                "write {name}, and a brace in the text twice: {{ }}"
            )
    return Template(source, tuple((text, name or "") for text, name, _, _ in parsed))
