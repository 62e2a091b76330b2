"""The writer: what all of a builder's methods share — names, arguments, and checks of both ends of an edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import GraphError
from ..tools import Tool
from .graph import Argument, Fixed, Graph, Items, Node, Target, Where
from .ref import Ref, describe, edge_of
from .signature import NO_NAMES, Parameter, parameters_of, return_type
from .source import caller, local_names
from .template import Template, read_template
from .types import element, fill, fits, join, name_of, of_value, solve


class Writer:
    """The nodes of one graph as they are written. Raises GraphError, which names both ends and their lines."""

    def __init__(self, name: str, names: Mapping[str, Any] = NO_NAMES) -> None:
        self._name = name
        self._enclosing = names
        self._nodes: list[Node] = []
        self._names: set[str] = set()
        self._numbers: dict[str, int] = {}

    def _where(self) -> Where:
        """The line that is being written."""
        return caller()

    def _known(self) -> Mapping[str, Any]:
        """Names that annotations may use beside those of their module."""
        return {**self._enclosing, **local_names()}

    def _add(self, node: Node) -> Ref:
        self._nodes.append(node)
        return Ref(self, node, node.type)

    def _free_name(self, name: str, where: Where, *, given: bool) -> str:
        """A given name must be free; one that we make up gets a number."""
        if "/" in name:
            raise GraphError(f"node name '{name}' ({where}) holds '/', which separates names in paths")
        if given and name in self._names:
            other = next(node for node in self._nodes if node.name == name)
            raise GraphError(
                f"graph '{self._name}': two nodes are called '{name}' ({other.where} and {where}); "
                "give one of them another name="
            )
        free = name
        while free in self._names:
            self._numbers[name] = self._numbers.get(name, 1) + 1
            free = f"{name}_{self._numbers[name]}"
        self._names.add(free)
        return free

    def _parent(self, after: object) -> str:
        if isinstance(after, str):
            return after
        if isinstance(after, Ref):
            self._check_own(after)
            return after._node.name
        raise GraphError(f"after={after!r} at {self._where()} is no thought; pass what g.think gave, or its name")

    def _arguments(self, values: Mapping[str, object]) -> dict[str, Argument]:
        return {name: self._argument(value) for name, value in values.items()}

    def _argument(self, value: object) -> Argument:
        if isinstance(value, Ref):
            self._check_own(value)
            return edge_of(value)
        if isinstance(value, list | tuple) and any(isinstance(item, Ref | list | tuple) for item in value):
            return Items(tuple(self._argument(item) for item in value))
        return Fixed(value)

    def _check_own(self, ref: Ref) -> None:
        if ref._builder is not self:
            raise GraphError(
                f"{describe(ref)} belongs to graph '{ref._builder._name}' "
                f"and can't be used in '{self._name}' ({self._where()}); give it to the node that holds the inner graph"
            )

    def _template(self, source: str, owner: str, values: Mapping[str, object]) -> Template:
        """Parse a template whose fields are just the values given."""
        parsed = read_template(source, owner)
        self._check_fields(owner, parsed.fields, values)
        return parsed

    def _check_fields(self, owner: str, fields: Sequence[str], values: Mapping[str, object]) -> None:
        missing = [name for name in fields if name not in values]
        if missing:
            given = ", ".join(values) or "none"
            raise GraphError(
                f"the template of {owner} holds '{{{missing[0]}}}' but no such value was given; given: {given}"
            )
        for name, value in values.items():
            if name not in fields:
                shown = ", ".join(fields) or "none"
                raise GraphError(
                    f"{owner} was given '{name}' ({self._describe(value)}), which its template does not hold; "
                    f"its fields: {shown}"
                )

    def _check_arguments(
        self, owner: str, parameters: Sequence[Parameter], values: Mapping[str, object]
    ) -> dict[Any, Any]:
        """Check values against what takes them; gives what its type variables stand for."""
        known = {parameter.name: parameter for parameter in parameters if not parameter.rest}
        takes_any = any(parameter.rest for parameter in parameters)
        variables: dict[Any, Any] = {}
        for name, value in values.items():
            if name in known:
                self._check_type(owner, known[name], value)
                variables |= solve(known[name].type, self._type_of(value))
            elif not takes_any:
                shown = ", ".join(known) or "none"
                raise GraphError(f"{owner} has no argument '{name}' (given {self._describe(value)}); it takes: {shown}")
        for parameter in known.values():
            if parameter.required and parameter.name not in values:
                raise GraphError(
                    f"{owner} lacks argument '{parameter.name}' of type {name_of(parameter.type)}; "
                    f"given: {', '.join(values) or 'none'}"
                )
        return variables

    def _check_target(self, owner: str, target: object) -> None:
        if isinstance(target, Ref) or (not callable(target) and not isinstance(target, Graph)):
            raise GraphError(f"{owner} was given {self._describe(target)} to call; give it a tool, graph or function")

    def _check_each(self, owner: str, target: Target, items: object, others: Mapping[str, object]) -> tuple[str, Any]:
        """Check a target that is applied to every item: the argument that takes it, and the type of what it gives."""
        plain = name_of_target(target)
        self._check_target(owner, target)
        parameters = parameters_of(target, self._known())
        over = next((parameter.name for parameter in parameters if parameter.name not in others), "")
        if not over:
            raise GraphError(f"{owner}: no argument of '{plain}' is left for the elements")
        kind = element(self._type_of(items))
        if kind is None:
            verb = owner.split(" ", 1)[0]
            raise GraphError(
                f"{owner} {verb}s over {self._describe(items)} of type {self._shown(items)}, which is no list"
            )
        each = Element(kind, self._describe(items))
        variables = self._check_arguments(owner, parameters, {over: each, **others})
        return over, fill(return_type(target, self._known()), variables)

    def _check_type(self, owner: str, parameter: Parameter, value: object) -> None:
        given = self._type_of(value)
        if not fits(given, parameter.type):
            raise GraphError(
                f"{self._describe(value)} gives {name_of(given)}, "
                f"but argument '{parameter.name}' of {owner} takes {name_of(parameter.type)}"
            )

    def _type_of(self, value: object) -> Any:
        if isinstance(value, Element):
            return value.type
        if isinstance(value, Ref):
            return value._type
        if isinstance(value, list | tuple) and any(isinstance(item, Ref) for item in value):
            return list[join([self._type_of(item) for item in value])]  # type: ignore[misc]
        return of_value(value)

    def _shown(self, value: object) -> str:
        return name_of(self._type_of(value))

    def _describe(self, value: object) -> str:
        if isinstance(value, Element):
            return f"an element of {value.source}"
        if isinstance(value, Ref):
            return describe(value)
        return f"the value {value!r:.60}"


def name_of_target(target: Target) -> str:
    """The name that a node made of a target is given where the user gives none."""
    if isinstance(target, Graph | Tool):
        return target.name
    return getattr(target, "__name__", "").strip("<>") or type(target).__name__


class Element:
    """Stands for an element of a list while a map's arguments are checked."""

    def __init__(self, type_: Any, source: str) -> None:
        self.type = type_
        self.source = source
