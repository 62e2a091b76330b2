"""Names in a graph's JSON: what functions, tools and types are called there, and how they are found again."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

from ..errors import GraphError
from ..tools import Tool
from .joins import Settled
from .types import UNIONS, join, plain

_KNOWN: dict[str, Any] = {
    kind.__name__: kind
    for kind in (str, int, float, bool, bytes, complex, object, list, dict, tuple, set, frozenset, Settled)
}
_KNOWN |= {"Any": Any, "None": None, "Literal": Literal}
_HARMLESS = {"collections.abc", "datetime", "decimal", "typing", "uuid"}
"""Modules whose classes may stand in types without leave."""
_LONGEST = 2000
"""Characters of a type: beyond it no one has written it by hand, and the parser's depth is at stake."""


class Names:
    """A registry of names, and the modules from which other names may be imported.

    Reading JSON imports nothing but from `modules` (and what stands in them): a graph from elsewhere can't run code
    that its reader did not name.
    """

    def __init__(self, registry: Mapping[str, Any] | None = None, modules: Collection[str] = ()) -> None:
        self._registry = dict(registry or {})
        self._modules = tuple(modules)
        self._given = {id(thing): name for name, thing in self._registry.items()}

    # ---- functions, tools, classes

    def name(self, thing: Any) -> str:
        """The name in the registry, or else the module's and the thing's own, as in "shop.tools:price"."""
        if id(thing) in self._given:
            return self._given[id(thing)]
        named = thing.function if isinstance(thing, Tool) else thing
        return f"{getattr(named, '__module__', '')}:{getattr(named, '__qualname__', type(named).__name__)}"

    def find(self, name: str) -> Any:
        """What a name stands for. Raises GraphError."""
        if name in self._registry:
            return self._registry[name]
        module, colon, path = name.partition(":")
        if not colon or not self._may_import(module):
            raise GraphError(
                f"'{name}' is neither in the registry nor of a module that may be imported "
                f"({', '.join(self._modules) or 'none'}); pass registry={{'{name}': …}}, "
                f"or modules=['{module}'] if you trust it"
            )
        return self._import(module, path, name)

    def _may_import(self, module: str) -> bool:
        return any(module == allowed or module.startswith(allowed + ".") for allowed in self._modules)

    def _import(self, module: str, path: str, name: str) -> Any:
        try:
            found: Any = import_module(module)
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise GraphError(f"'{name}' can't be imported: {error}; give it a name in registry=") from None
        return found

    # ---- errors that a retry is for

    def find_error(self, name: str) -> type[Exception]:
        """An exception class: of Python, of plait, or by `find`. Raises GraphError."""
        module, _, path = name.partition(":")
        found = getattr(builtins, path, None) if module == "builtins" else None
        if module == __package__.split(".")[0] + ".errors":
            found = self._import(module, path, name)
        found = found or self.find(name)
        if not (isinstance(found, type) and issubclass(found, Exception)):
            raise GraphError(f"'{name}' is no exception class")
        return found

    # ---- types

    def type_name(self, kind: Any) -> str:
        """A type as an expression: `list[int] | None`, `shop.models.Order`."""
        kind = plain(kind)
        if kind is Any:
            return "Any"
        if kind is None or kind is type(None):
            return "None"
        if id(kind) in self._given:
            return self._given[id(kind)]
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in UNIONS:
            return " | ".join(self.type_name(option) for option in arguments)
        if origin is Literal:
            return f"Literal[{', '.join(map(repr, arguments))}]"
        if origin is not None:
            inside = ", ".join("..." if argument is ... else self._inside(argument) for argument in arguments)
            return f"{self.type_name(origin)}[{inside or '()'}]"
        name = getattr(kind, "__name__", "")
        if name in _KNOWN and _KNOWN[name] is kind:
            return str(name)
        return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', kind)}"

    def _inside(self, argument: Any) -> str:
        """An argument of a generic type; Callable's own are a list."""
        if isinstance(argument, list):
            return f"[{', '.join(map(self.type_name, argument))}]"
        return self.type_name(argument)

    def find_type(self, text: str) -> Any:
        """The type that an expression stands for. Raises GraphError."""
        if len(text) > _LONGEST:
            raise GraphError(f"the type {text[:40]!r}… is longer than {_LONGEST} characters")
        try:
            return self._build(ast.parse(text, mode="eval").body)
        except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError) as error:
            raise GraphError(f"the type {text!r:.80} can't be read: {error}") from None

    def _build(self, part: ast.expr) -> Any:
        match part:
            case ast.Constant(value=None):
                return None
            case ast.Name() | ast.Attribute():
                return self._find_class(ast.unparse(part))
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return join([self._build(left), self._build(right)])
            case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
                found = ast.literal_eval(inside)
                return Literal[found]
            case ast.Subscript(value=of, slice=ast.Tuple(elts=inside)):
                return self._build(of)[tuple(map(self._argument, inside))]
            case ast.Subscript(value=of, slice=inside):
                return self._build(of)[self._argument(inside)]
        raise ValueError(f"{ast.unparse(part)} is no type")

    def _argument(self, part: ast.expr) -> Any:
        match part:
            case ast.Constant(value=value) if value is ...:
                return ...
            case ast.List(elts=inside):
                return [self._build(each) for each in inside]
        return self._build(part)

    def _find_class(self, name: str) -> Any:
        if name in self._registry:
            return self._registry[name]
        if name in _KNOWN:
            return _KNOWN[name]
        parts = name.split(".")
        for split in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:split])
            if module in _HARMLESS or self._may_import(module):
                try:
                    import_module(module)
                except ImportError:
                    continue
                return self._import(module, ".".join(parts[split:]), name)
        module = ".".join(parts[:-1])
        raise GraphError(
            f"type '{name}' is neither built in, nor in the registry, nor of a module that may be imported; "
            f"pass registry={{'{name}': …}}" + (f", or modules=['{module}'] if you trust it" if module else "")
        )


class AnyModule(Names):
    """Names that may be imported from anywhere: of a graph that is in this process already."""

    def _may_import(self, module: str) -> bool:
        return True
