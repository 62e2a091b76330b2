"""Secrets: values that no event, record or error may show."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

_NAMES = re.compile(r"(?i)(api|access|private|secret)_?key|secret|token|passw(or)?d|credential")
_SHORTEST = 8
"""Characters from which on the value of a variable is taken for a secret: shorter ones are words such as "true"."""


class Secrets:
    """The secrets that a run knows: environment variables whose names say so, and arguments that tools mark.

    `hide` puts `[secret:NAME]` in their place. `restore` undoes it for environment variables and for inputs, so that a
    run which is resumed goes on with the value that the variable has then, or that is given again.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._hidden: dict[str, str] = {}
        self._restored: dict[str, str] = {}
        for name, value in environment.items():
            if len(value) >= _SHORTEST and _NAMES.search(name):
                self.add_known(name, value)

    def add(self, name: str, value: object) -> None:
        """Hide a value from now on. Anything but text, and the empty text, can't be found in texts."""
        if isinstance(value, str) and value:
            for form in {value, json.dumps(value)[1:-1], repr(value)[1:-1]}:
                self._hidden.setdefault(form, _mark(name))

    def add_known(self, name: str, value: str) -> None:
        """Hide a value that a later run will know too, so that it can be restored there."""
        self.add(name, value)
        self._restored[_mark(name)] = value

    def hide(self, text: str) -> str:
        for secret, mark in self._hidden.items():
            if secret in text:
                text = text.replace(secret, mark)
        return text

    def hide_in(self, value: Any) -> Any:
        """A value of JSON's types with the secrets in its texts hidden; any other value as it is."""
        if not self._hidden:
            return value
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, list):
            return [self.hide_in(item) for item in value]
        if isinstance(value, dict):
            return {self.hide_in(key): self.hide_in(item) for key, item in value.items()}
        return value

    def hide_error(self, error: BaseException | None) -> None:
        """Hide secrets in an error's text and in the texts of what it came from."""
        seen: set[int] = set()
        while error is not None and self._hidden and id(error) not in seen:
            seen.add(id(error))
            error.args = tuple(self.hide_in(part) for part in error.args)
            error = error.__cause__ or error.__context__

    def restore(self, text: str) -> str:
        """JSON text as it was before `hide`, as far as the environment knows the secrets."""
        if "[secret:" not in text:
            return text
        for mark, value in self._restored.items():
            text = text.replace(mark, json.dumps(value)[1:-1])
        return text


def _mark(name: str) -> str:
    return f"[secret:{name}]"
