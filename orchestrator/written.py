"""Graphs as JSON values: a versioned schema, which `reading` reads back without loss."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ..tools.retry import NEVER
from .compound import Ask, Branch, Gather, Loop, Select, Subgraph, Team
from .graph import (
    Argument,
    Call,
    Constant,
    Drive,
    Edge,
    Fixed,
    Function,
    Graph,
    Input,
    Map,
    Node,
    Target,
    Think,
)
from .joins import Join, KOf, all_of
from .names import Names
from .types import of_value

VERSION = 2
"""Of the JSON form. 1 had no compound nodes and could not be read back."""


def write_graph(graph: Graph[Any], names: Names) -> dict[str, Any]:
    """A graph as JSON values, functions, tools and types by name.

    What has no JSON form is shown as text, under a key that says so; such a graph can't be read back.
    """
    return {"version": VERSION, **_graph(graph, names)}


def _graph(graph: Graph[Any], names: Names) -> dict[str, Any]:
    return {
        "name": graph.name,
        "where": str(graph.where),
        "returns": names.type_name(graph.returns),
        "result": _argument(graph.result, names),
        "nodes": [_node(node, names) for node in graph.nodes],
    }


def _node(node: Node, names: Names) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": node.name,
        "kind": node.kind,
        "type": names.type_name(node.type),
        "where": str(node.where),
    }
    if node.arguments:
        entry["arguments"] = {name: _argument(argument, names) for name, argument in node.arguments.items()}
    if node.after:
        entry["after"] = node.after
    if node.timeout != math.inf:
        entry["timeout"] = node.timeout
    if node.retry != NEVER:
        entry["retry"] = {**_record(node.retry), "on": [names.name(kind) for kind in node.retry.on]}
    if node.needs:
        entry["needs"] = list(node.needs)
    return entry | _own(node, names)


def _own(node: Node, names: Names) -> dict[str, Any]:
    match node:
        case Input() if node.default is not inspect.Parameter.empty:
            return _value("default", node.default, names)
        case Constant():
            return _value("value", node.value, names)
        case Think():
            return {
                "template": node.template.source,
                "samples": node.samples,
                **_asked(node, names),
                **_join(node.join),
            }
        case Call():
            return {"tool": names.name(node.tool)}
        case Map():
            return {"target": _target(node.target, names), "over": node.over, "cap": node.cap, **_join(node.join)}
        case Function():
            return {"function": names.name(node.function)}
        case Drive():
            foreseen = {} if node.foreseen is None else {"foreseen": _record(node.foreseen)}
            return {"driver": names.name(node.driver), **foreseen}
    return _own_of_compound(node, names)


def _own_of_compound(node: Node, names: Names) -> dict[str, Any]:
    match node:
        case Subgraph():
            return {"graph": _graph(node.graph, names)}
        case Branch():
            arms = [{**_value("value", arm.value, names), "graph": _graph(arm.graph, names)} for arm in node.arms]
            return {"arms": arms} | ({"otherwise": _graph(node.otherwise, names)} if node.otherwise else {})
        case Loop():
            until = {} if node.until is None else {"until": _target(node.until, names)}
            return {"body": _graph(node.body, names), "carried": node.carried, "at_most": node.at_most, **until}
        case Select():
            return {"by": _target(node.by, names), "over": node.over, **_join(node.join)}
        case Gather():
            return _join(node.join)
        case Team():
            templates = {member.name: member.template.source for member in node.members}
            return {"members": templates, "layout": _record(node.teamwork), **_asked(node.members[0], names)}
        case Ask():
            return {"template": node.template.source, "returns": names.type_name(node.type)}
    return {}


def _asked(node: Think, names: Names) -> dict[str, Any]:
    """How a thought is asked for."""
    return {
        "returns": names.type_name(node.returns),
        "system": node.system,
        "max_tokens": node.max_tokens,
        "stop": list(node.stop),
        "sampling": _record(node.sampling),
    }


def _argument(argument: Argument, names: Names) -> dict[str, Any]:
    match argument:
        case Edge(name, path):
            return {"node": name, "path": list(path)} if path else {"node": name}
        case Fixed(value):
            return _value("value", value, names)
        case _:
            return {"items": [_argument(item, names) for item in argument.items]}


def _target(target: Target, names: Names) -> Any:
    return {"graph": _graph(target, names)} if isinstance(target, Graph) else names.name(target)


def _join(join: Join) -> dict[str, Any]:
    if join == all_of:
        return {}
    return {"join": {"k_of": join.k}} if isinstance(join, KOf) else {"join": join.name}


def _record(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not as they are by default."""
    found = {}
    for field in fields(value):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if getattr(value, field.name) != default:
            found[field.name] = getattr(value, field.name)
    return {
        name: {str(key): each for key, each in one.items()} if isinstance(one, Mapping) else one
        for name, one in found.items()
    }


def _value(key: str, value: object, names: Names) -> dict[str, Any]:
    """A value under a key: as JSON, with its type where JSON does not show it, or as text that can't be read back."""
    if _is_json(value):
        return {key: value}
    from pydantic import TypeAdapter

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(of_value(value))
        text = adapter.dump_json(value, warnings=False)
        if adapter.validate_json(text) == value:
            return {key: json.loads(text), f"{key}_type": names.type_name(of_value(value))}
    except Exception:  # a type's own code may fail in any way; then the value is shown
        pass
    return {f"{key}_shown": repr(value)}


def _is_json(value: object) -> bool:
    """Whether JSON holds the value as it is: no tuple, no subclass, no key but text, no infinity."""
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    return value is None or type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value))
