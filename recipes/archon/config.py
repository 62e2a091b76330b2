"""Archon's configurations: layers of components, as published, read with what is tolerated told as warnings (2024)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DataError
from .positions import Located, read_located

COMMON = ("type", "model", "model_type", "temperature", "max_tokens", "samples", "no_system")
FIELDS: Mapping[str, tuple[str, ...]] = {
    "generator": COMMON,
    "critic": COMMON,
    "ranker": (*COMMON, "top_k", "use_critiques"),
    "fuser": (*COMMON, "length_control"),
    "verifier": (*COMMON, "first_k"),
    "unit_test_generator": (*COMMON, "unit_test_cap"),
    "unit_test_evaluator": (
        *COMMON,
        "top_k",
        "first_k",
        "first_pass",
        "remove_unit_tests_from_prompt",
        "unit_test_cap",
    ),
}
"""What each type of component takes."""
MODEL_TYPES = frozenset(
    ["Together_API", "OpenAI_API", "Anthropic_API", "Groq_API", "Google_API", "tgi", "Bedrock_API", "vLLM", "custom"]
)
TEMPERATURE, MAX_TOKENS = 0.7, 2048
"""What stands where a configuration says nothing: the values that the published ones have."""

_FLAGS = frozenset({"no_system", "use_critiques", "length_control", "first_pass", "remove_unit_tests_from_prompt"})
_COUNTS = frozenset({"max_tokens", "samples", "top_k", "first_k", "unit_test_cap"})
_TEXTS = frozenset({"type", "model", "model_type"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One component of a layer. Counts are 0 where nothing is said: all of them, or no early stop."""

    type: str
    model: str
    model_type: str = ""
    temperature: float = TEMPERATURE
    max_tokens: int = MAX_TOKENS
    samples: int = 1
    no_system: bool = False
    top_k: int = 0
    first_k: int = 0
    first_pass: bool = False
    use_critiques: bool = False
    length_control: bool = False
    unit_test_cap: int = 0
    remove_unit_tests_from_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """An architecture: layers that run one after the other, and what was tolerated when it was read."""

    name: str
    layers: tuple[tuple[Component, ...], ...]
    warnings: tuple[str, ...] = ()

    @property
    def models(self) -> list[str]:
        """The models that it asks for, each once, in order."""
        return list(dict.fromkeys(component.model for layer in self.layers for component in layer))

    @property
    def types(self) -> list[str]:
        return list(dict.fromkeys(component.type for layer in self.layers for component in layer))


def read_config(source: str | Path, *, custom: Collection[str] = ()) -> Config:
    """A configuration from its JSON, or from a file. `custom` are further types of components that are known.

    Raises ConfigError with line and column, and DataError for a file that can't be read.
    """
    if isinstance(source, str):
        return _Reader(read_located(source), custom).config("archon")
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"configuration {source} can't be read: {error}") from error
    return _Reader(read_located(text), custom).config(source.stem)


class _Reader:
    """Reads one located text; collects warnings."""

    def __init__(self, located: Located, custom: Collection[str]) -> None:
        self._at = located
        self._custom = custom
        self._warnings: list[str] = []

    def config(self, name: str) -> Config:
        top = self._at.value
        if not isinstance(top, dict):
            raise self._at.error(f"a configuration is an object with 'layers', not {_kind(top)}")
        if not isinstance(top.get("layers"), list) or not top["layers"]:
            raise self._at.error("'layers' must be a list of one layer at least", "layers")
        self._warn_of(set(top) - {"name", "layers", "custom"}, "the configuration")
        named = top.get("name", name)
        if not isinstance(named, str):
            raise self._at.error(f"'name' is {_kind(named)}; it must be a text", "name")
        self._any_type = top.get("custom") is True
        layers = tuple(self._layer(place, layer) for place, layer in enumerate(top["layers"]))
        return Config(named or name, layers, tuple(dict.fromkeys(self._warnings)))

    def _layer(self, place: int, layer: Any) -> tuple[Component, ...]:
        """A list of components, or as in older files {"branches": n, "models": […]}: n times the models."""
        way: tuple[str | int, ...] = ("layers", place)
        branches = 1
        if isinstance(layer, dict) and "models" in layer:
            branches = self._count(layer.get("branches", 1), "branches", (*way, "branches"))
            self._warn_of(set(layer) - {"branches", "models"}, f"layer {place + 1}")
            layer, way = layer["models"], (*way, "models")
        if isinstance(layer, dict):
            shown = f" (it reads like one, of type '{layer['type']}')" if isinstance(layer.get("type"), str) else ""
            raise self._at.error(
                f"layer {place + 1} is an object, not a list of components{shown}: the layers are flat; "
                "write each layer as a list, [[component, …], …]",
                *way,
            )
        if not isinstance(layer, list) or not layer:
            raise self._at.error(f"layer {place + 1} must be a list of one component at least", *way)
        components = [self._component((*way, index), entry) for index, entry in enumerate(layer)]
        return tuple(components * branches)

    def _component(self, way: tuple[str | int, ...], entry: Any) -> Component:
        if not isinstance(entry, dict):
            raise self._at.error(f"a component is an object, not {_kind(entry)}", *way)
        kind = entry.get("type")
        known = FIELDS.get(kind) if isinstance(kind, str) else None
        if known is None:
            known = self._unknown_type(kind, (*way, "type"))
        self._warn_of(set(entry) - set(known), f"a {kind}")
        if not isinstance(entry.get("model"), str) or not entry["model"]:
            if kind in FIELDS:
                raise self._at.error(f"a {kind} needs 'model', the name of one", *way, "model")
            entry = {**entry, "model": ""}
        values = {name: self._value(entry[name], name, (*way, name)) for name in known if entry.get(name) is not None}
        for name, default in (("temperature", TEMPERATURE), ("max_tokens", MAX_TOKENS)):
            if name not in values:
                self._warnings.append(f"a {kind} without '{name}': {default} is taken")
        if kind in FIELDS and values.get("model_type") not in MODEL_TYPES:
            self._warnings.append(f"model type {values.get('model_type', '')!r} is not known; the model's name counts")
        return Component(**values)

    def _unknown_type(self, kind: Any, way: tuple[str | int, ...]) -> tuple[str, ...]:
        if isinstance(kind, str) and (kind in self._custom or self._any_type):
            if kind not in self._custom:
                self._warnings.append(f"'{kind}' is a component of your own: give it to archon(components=…)")
            return tuple(Component.__dataclass_fields__)
        near = get_close_matches(str(kind), FIELDS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise self._at.error(
            f"there is no component of type {kind!r:.40}; {hint}known: {', '.join(FIELDS)}; one of your own needs "
            'components={name: function}, and "custom": true in the file',
            *way,
        )

    def _value(self, value: Any, name: str, way: tuple[str | int, ...]) -> Any:
        if name in _COUNTS:
            return self._count(value, name, way)
        if name in _FLAGS and not isinstance(value, bool):
            raise self._at.error(f"'{name}' is {_kind(value)}; it must be true or false", *way)
        if name in _TEXTS and not isinstance(value, str):
            raise self._at.error(f"'{name}' is {_kind(value)}; it must be a text", *way)
        if name == "temperature" and not (_is_number(value) and 0 <= value <= 100):
            raise self._at.error(f"'{name}' is {value!r:.40}; it must be a number from 0 to 100", *way)
        return value

    def _count(self, value: Any, name: str, way: tuple[str | int, ...]) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
            raise self._at.error(f"'{name}' is {value!r:.40}; it must be a whole number, 1 or more", *way)
        return value

    def _warn_of(self, unknown: set[str], where: str) -> None:
        if unknown:
            self._warnings.append(f"fields of {where} that say nothing here: {', '.join(sorted(unknown))}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


__all__ = ["FIELDS", "Component", "Config", "ConfigError", "read_config"]
