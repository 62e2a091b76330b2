"""What a tool's function takes and gives: JSON schema and validation, read from its type hints by pydantic."""

from __future__ import annotations

import difflib
import functools
import inspect
import reprlib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from ..errors import InputError, ToolArgumentError, ToolError

_POSITIONAL = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

COMPLAINTS = 8
"""What is said at most of what is wrong with arguments: a model reads it."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The arguments of the tool `name`, in order, with their JSON schema (self-contained), and the type of its result.

    `text` is the signature as Python writes it, for messages and prompts.
    """

    name: str
    text: str
    arguments: tuple[str, ...]
    schema: Mapping[str, Any]
    returns: Any
    _model: type[BaseModel]
    _result: TypeAdapter[Any]

    def check_arguments(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        """The arguments with their types put right, defaults left to the function. Raises ToolArgumentError."""
        if not isinstance(arguments, Mapping):
            raise ToolArgumentError(
                f"tool '{self.name}' takes its arguments by name, as an object, not {reprlib.repr(arguments)}; "
                f"it takes {self.text}"
            )
        try:
            checked = self._model.model_validate(dict(arguments))
        except ValidationError as error:
            details = error.errors(include_url=False)
            complaints = [_complaint(detail, self.arguments) for detail in details[:COMPLAINTS]]
            complaints += [f"and {len(details) - COMPLAINTS} more"] * (len(details) > COMPLAINTS)
            raise ToolArgumentError(f"tool '{self.name}': {'; '.join(complaints)}. It takes {self.text}") from None
        return {
            name: getattr(checked, _field_name(index))
            for index, name in enumerate(self.arguments)
            if _field_name(index) in checked.model_fields_set
        }

    def check_result(self, value: object) -> Any:
        """The result with its type put right. Raises ToolError if it is not what the function promises."""
        try:
            return self._result.validate_python(value)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            raise ToolError(
                f"tool '{self.name}' returned {reprlib.repr(value)}, which is not the {_type_name(self.returns)} "
                f"that its signature promises: {detail['msg']}"
            ) from None


def read_signature(function: Callable[..., Any], name: str, descriptions: Mapping[str, str]) -> Signature:
    """Read a function's signature, with `descriptions` for the schema. Raises InputError if it can't be a tool's."""
    parameters = inspect.signature(function).parameters
    hints = _hints(function, name)
    for parameter in parameters.values():
        _check_parameter(parameter, hints, name)
    fields = {
        _field_name(index): (hints[parameter.name], _field(parameter, descriptions))
        for index, parameter in enumerate(parameters.values())
    }
    returns = hints.get("return", Any)
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)  # type: ignore[call-overload]
        schema = model.model_json_schema(schema_generator=_PlainSchema)
        result: TypeAdapter[Any] = TypeAdapter(returns)
    except (PydanticUserError, NameError) as error:
        raise InputError(
            f"tool '{name}' has a type that pydantic can't check: {str(error).splitlines()[0]} "
            "Use built-in types, dataclasses or pydantic models"
        ) from error
    schema.pop("title", None)
    plain = _inline(schema, schema.pop("$defs", {}), name, ())
    return Signature(name, _text(parameters, hints), tuple(parameters), plain, returns, model, result)


# ---- reading types


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    while isinstance(function, functools.partial):
        function = function.func
    described = function if inspect.isroutine(function) else type(function).__call__
    try:
        return typing.get_type_hints(described, include_extras=True)
    except (NameError, TypeError) as error:
        raise InputError(
            f"tool '{name}': its type hints can't be read: {error}. Define the types at the top level of the module"
        ) from error


def _check_parameter(parameter: inspect.Parameter, hints: Mapping[str, Any], name: str) -> None:
    if parameter.kind not in _POSITIONAL:
        raise InputError(
            f"tool '{name}' takes '{parameter}': arguments are given by name; write each with its name and type"
        )
    if parameter.name not in hints:
        raise InputError(
            f"tool '{name}': argument '{parameter.name}' has no type; write one, as in '{parameter.name}: str'"
        )


def _field_name(index: int) -> str:
    """Neutral names (the argument's own is the alias), because pydantic keeps `schema`, `_x` and others for itself."""
    return f"argument_{index}"


def _field(parameter: inspect.Parameter, descriptions: Mapping[str, str]) -> Any:
    options: dict[str, Any] = {"alias": parameter.name}
    if parameter.name in descriptions:
        options["description"] = descriptions[parameter.name]
    if parameter.default is not inspect.Parameter.empty:
        options["default"] = parameter.default
    return Field(**options)


class _PlainSchema(GenerateJsonSchema):
    """JSON schema without the titles that pydantic makes up: they would be tokens in every prompt."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def emit_warning(self, kind: Any, detail: str) -> None:
        """A default that JSON can't write is left out of the schema; the function still has it."""


def _inline(node: Any, definitions: Mapping[str, Any], name: str, inside: tuple[str, ...]) -> Any:
    """Replace references by what they refer to: a recipe puts the schema into a larger grammar."""
    if isinstance(node, list):
        return [_inline(item, definitions, name, inside) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if not isinstance(reference, str):
        kept = {key: value for key, value in node.items() if not _is_discriminator(key, value)}
        return {key: _inline(value, definitions, name, inside) for key, value in kept.items()}
    target = reference.rsplit("/", 1)[-1]
    if target in inside:
        raise InputError(f"tool '{name}': type '{target}' contains itself; a tool's arguments need a finite type")
    body = _inline(definitions[target], definitions, name, (*inside, target))
    body.pop("title", None)
    return body | {key: value for key, value in node.items() if key != "$ref"}


def _is_discriminator(key: str, value: object) -> bool:
    """Its mapping points at definitions that are inlined here."""
    return key == "discriminator" and isinstance(value, dict) and "propertyName" in value


# ---- wording


def _text(parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> str:
    return "(" + ", ".join(_parameter_text(parameter, hints) for parameter in parameters.values()) + ")"


def _parameter_text(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> str:
    text = f"{parameter.name}: {_type_name(hints[parameter.name])}"
    return text if parameter.default is inspect.Parameter.empty else f"{text} = {reprlib.repr(parameter.default)}"


def _type_name(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return kind.__name__ if isinstance(kind, type) else str(kind).removeprefix("typing.")


def _complaint(detail: ErrorDetails, known: tuple[str, ...]) -> str:
    where = ".".join(f"{part!s:.80}" for part in detail["loc"]) or "the arguments"
    if detail["type"] == "missing" and len(detail["loc"]) == 1:
        return f"argument '{where}' is missing"
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(where, known, n=1)
        return f"there is no argument '{where}'" + (f" (did you mean '{close[0]}'?)" if close else "")
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    return f"argument '{where}' = {reprlib.repr(detail['input'])}: {message:.400}"
