"""Conversations: messages rendered by the checkpoint's chat template (jinja2, sandboxed)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...errors import CapabilityError, CheckpointError, InputError
from ..base import Message
from ..conversation import TURN, Conversation
from .tokenizer import read_json


class ChatTemplate:
    """Renders messages. Without a template it refuses to."""

    def __init__(self, source: str, names: dict[str, str], where: str) -> None:
        """`names` are the special tokens that templates ask for, `where` names the checkpoint in messages."""
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
        self.source = source
        self._names = names
        self._where = where
        try:
            self._template = environment.from_string(source) if source else None
        except TemplateError as error:
            raise CheckpointError(f"chat template of {where} can't be read: {error}") from error

    @classmethod
    def load(cls, directory: Path) -> ChatTemplate:
        """From chat_template.jinja or tokenizer_config.json; without either, messages will be refused."""
        config = read_json(directory / "tokenizer_config.json")
        file = directory / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else _default(config.get("chat_template"))
        names = {name: _content(config.get(name)) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
        return cls(source, names, str(directory))

    def open(self, messages: Sequence[Message]) -> str:
        """The conversation from its start, with the assistant's turn opened."""
        return self._render(messages)

    def follow(self, conversation: Conversation, said: str, messages: Sequence[Message]) -> str:
        """What closes the assistant's turn, in which it said `said`, and what the further messages add."""
        for history in conversation.histories(said, messages):
            rendered = self._render(history)
            if TURN in rendered:
                return rendered.split(TURN, 1)[1]
        raise CapabilityError(f"chat template of {self._where} leaves the assistant's turn out: extend with text")

    def _render(self, messages: Sequence[Message]) -> str:
        if self._template is None:
            raise CapabilityError(f"checkpoint at {self._where} has no chat template: give the prompt as text")
        listed = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(
                messages=listed, add_generation_prompt=True, tools=None, documents=None, **self._names
            )
        except InputError:
            raise
        except Exception as error:  # a template may fail in any way
            raise InputError(f"chat template of {self._where} refuses these messages: {error}") from error


def _default(template: object) -> str:
    """The template to use where a checkpoint has several by name."""
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        return str(named.get("default", next(iter(named.values()), "")))
    return template if isinstance(template, str) else ""


def _content(token: object) -> str:
    found: Any = token.get("content", "") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""


def _to_json(value: object, indent: int | None = None, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(reason: str) -> None:
    raise InputError(f"chat template refuses these messages: {reason}")
