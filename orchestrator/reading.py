"""Graphs from JSON values: the nodes are written again with a builder, so that every check of a graph holds."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from ..engines.base import Sampling, Teamwork
from ..errors import GraphError
from .builder import Builder
from .compound import CONDITION
from .declare import finish_graph
from .entry import Entry
from .graph import Foreseen, Graph, Input, Target, Where
from .names import AnyModule, Names
from .ref import Ref
from .written import VERSION, write_graph


def read_json(text: str, names: Names) -> Graph[Any]:
    """A graph from JSON text. Raises GraphError that names the place."""
    try:
        return read_graph(json.loads(text, parse_constant=_refuse_constant), names)
    except json.JSONDecodeError as error:
        raise GraphError(f"a graph's JSON can't be read: {error}") from None
    except RecursionError:
        raise GraphError("a graph's JSON is nested too deeply") from None


def checked_json(graph: Graph[Any], registry: Mapping[str, Any]) -> str:
    """A graph as JSON text, read back once to be sure that it can be. Raises GraphError where it can't."""
    names = AnyModule(registry)
    data = write_graph(graph, names)
    try:
        again = write_graph(read_graph(data, names), names)
    except GraphError as error:
        raise GraphError(f"graph '{graph.name}' has no JSON that can be read back: {error}") from None
    if again != data:
        raise GraphError(f"graph '{graph.name}' has no JSON that reads back equal; it was not made by a builder")
    return json.dumps(data, allow_nan=False)


def read_graph(data: object, names: Names) -> Graph[Any]:
    """A graph from JSON values. Raises GraphError that names the place."""
    entry = Entry(data, "graph", names)
    version = entry.take("version", int)
    if version != VERSION:
        raise entry.error(f"version {version} can't be read; this plait reads version {VERSION}")
    return _graph(entry)


def _graph(entry: Entry) -> Graph[Any]:
    builder = _Writer(entry.take("name", str))
    where, returns = entry.where(), entry.kind("returns")
    refs: dict[str, Any] = {}
    for node in entry.entries("nodes"):
        with node.located():
            refs[node.take("name", str)] = builder.write(node, refs)
    result = entry.inner("result")
    with result.located():
        graph = finish_graph(builder, where, _value_of(result, refs), returns)
    entry.close()
    return graph


class _Writer(Builder):
    """A builder that writes nodes as their entries say."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._line = Where("", 0)

    def _where(self) -> Where:
        return self._line

    def _known(self) -> Mapping[str, Any]:
        return {}

    def write(self, entry: Entry, refs: Mapping[str, Any]) -> Any:
        """Write one node; gives its reference."""
        kind, name, said = entry.take("kind", str), entry.take("name", str), entry.take("type", str)
        self._line = entry.where()
        write: Callable[..., Any] | None = getattr(self, f"_write_{kind}", None)
        if write is None:
            raise entry.error(f"there is no node kind '{kind}'")
        ref = write(entry, name, _arguments(entry, refs))
        if isinstance(ref, Ref):
            found = entry.names.type_name(ref._type)
            if found != said:
                raise entry.error(f"it was written with type {said}, but now gives {found}; write the graph anew")
        entry.close()
        return ref

    def _write_input(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        _none_left(entry, values)
        self._free_name(name, self._line, given=True)
        default = entry.value("default") if entry.has("default") else inspect.Parameter.empty
        return self._add(Input(name=name, where=self._line, type=entry.kind("type"), default=default))

    def _write_constant(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        _none_left(entry, values)
        return self.constant(entry.value("value"), name=name)

    def _write_think(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        options = {**_asked(entry), **_limits(entry), "samples": entry.take("samples", int), "join": entry.join()}
        template = entry.take("template", str)
        return _call(entry, self.think, (template,), {**options, "after": entry.after(), "name": name}, values)

    def _write_call(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        return _call(entry, self.call, (entry.find("tool"),), {"name": name}, values)

    def _write_map(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        items = _pop(entry, values, entry.take("over", str))
        options = {"name": name, "cap": entry.take("cap", int), "join": entry.join()}
        return _call(entry, self.map, (_target(entry, "target"), items), options, values)

    def _write_function(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        return _call(entry, self.function, (entry.find("function"),), {"name": name, **_limits(entry)}, values)

    def _write_drive(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        foreseen = entry.record("foreseen", Foreseen) if entry.has("foreseen") else None
        options = {"name": name, "needs": entry.texts("needs"), "foreseen": foreseen, **_limits(entry)}
        return _call(entry, self.drive, (entry.find("driver"),), options, values)

    def _write_subgraph(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        options = {"name": name, "timeout": entry.timeout()}
        return _call(entry, self.subgraph, (_graph(entry.inner("graph")),), options, values)

    def _write_branch(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        condition = _pop(entry, values, CONDITION)
        arms: dict[Any, Graph[Any]] = {}
        for arm in entry.entries("arms"):
            value = arm.value("value")
            if isinstance(value, list | dict) or value in arms:
                raise arm.error(f"{value!r:.60} can't be the value of an arm: a single value, and each once")
            arms[value] = _graph(arm.inner("graph"))
            arm.close()
        otherwise = _graph(entry.inner("otherwise")) if entry.has("otherwise") else None
        return _call(entry, self.branch, (condition, arms), {"name": name, "otherwise": otherwise}, values)

    def _write_loop(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        start = _pop(entry, values, entry.take("carried", str))
        until = _target(entry, "until") if entry.has("until") else None
        options = {"name": name, "until": until, "at_most": entry.take("at_most", int), "timeout": entry.timeout()}
        return _call(entry, self.loop, (_graph(entry.inner("body")), start), options, values)

    def _write_select(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        candidates = _pop(entry, values, entry.take("over", str))
        options = {"name": name, "by": _target(entry, "by"), "join": entry.join()}
        return _call(entry, self.select, (candidates,), options, values)

    def _write_gather(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        items = [_pop(entry, values, str(index)) for index in range(len(values))]
        return _call(entry, self.gather, (items,), {"name": name, "join": entry.join()}, values)

    def _write_team(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        options = {"layout": entry.record("layout", Teamwork), **_asked(entry), "timeout": entry.timeout()}
        members = entry.take("members", dict)
        if not all(isinstance(template, str) for template in members.values()):
            raise entry.error("members are templates by name")
        entry.skip("needs")
        return _call(entry, self.team, (members,), {**options, "after": entry.after(), "name": name}, values)

    def _write_ask(self, entry: Entry, name: str, values: dict[str, Any]) -> Any:
        options = {"returns": entry.kind("returns"), "name": name, **_limits(entry)}
        return _call(entry, self.ask, (entry.take("template", str),), options, values)


def _call(
    entry: Entry,
    method: Callable[..., Any],
    places: tuple[Any, ...],
    options: Mapping[str, Any],
    values: Mapping[str, Any],
) -> Any:
    """Call a method of the builder; an argument's name must not be that of an option."""
    for name in values:
        if name in inspect.signature(method).parameters or not name.isidentifier():
            raise entry.error(f"'{name}' can't be the name of an argument")
    return method(*places, **options, **values)


def _asked(entry: Entry) -> dict[str, Any]:
    entry.skip("needs")  # they follow from the type
    return {
        "returns": entry.kind("returns"),
        "system": entry.take("system", str),
        "max_tokens": entry.take("max_tokens", int),
        "stop": entry.stops(),
        "sampling": entry.record("sampling", Sampling),
    }


def _limits(entry: Entry) -> dict[str, Any]:
    return {"timeout": entry.timeout(), "retry": entry.retry()}


def _arguments(entry: Entry, refs: Mapping[str, Any]) -> dict[str, Any]:
    if not entry.has("arguments"):
        return {}
    arguments = entry.inner("arguments")
    values = {}
    for name in arguments.names_held:
        argument = arguments.inner(name)
        with argument.located():
            values[name] = _value_of(argument, refs)
    return values


def _value_of(argument: Entry, refs: Mapping[str, Any]) -> Any:
    """A reference, a value, or a list of them."""
    if argument.has("items"):
        value: Any = [_value_of(item, refs) for item in argument.entries("items")]
    elif argument.has("node"):
        value = argument.take("node", str)
        if value not in refs:
            raise argument.error(f"'{value}' is no node that stands before; nodes: {', '.join(refs) or 'none'}")
        value = refs[value]
        for name in argument.texts("path"):
            if not name.isidentifier() or name.startswith("_"):
                raise argument.error(f"'{name}' can't be the name of a field")
            value = getattr(value, name)
    else:
        value = argument.value("value")
    argument.close()
    return value


def _pop(entry: Entry, values: dict[str, Any], name: str) -> Any:
    if name not in values:
        raise entry.error(f"argument '{name}' is missing; given: {', '.join(values) or 'none'}")
    return values.pop(name)


def _target(entry: Entry, key: str) -> Target:
    """A tool or function by name, or a graph."""
    if not entry.holds_object(key):
        found: Target = entry.find(key)
        return found
    holder = entry.inner(key)
    graph = _graph(holder.inner("graph"))
    holder.close()
    return graph


def _none_left(entry: Entry, values: Mapping[str, Any]) -> None:
    if values:
        raise entry.error("it takes no arguments")


def _refuse_constant(name: str) -> Any:
    raise GraphError(f"a graph's JSON holds {name}, which is no JSON")
