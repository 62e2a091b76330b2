"""The tool: a Python function that a recipe or a model may call, with its schema and its limits (DESIGN.md §6)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, cast, overload

import anyio
import anyio.to_thread
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import ParamSpec, TypeVar

from ..errors import InputError, PlaitError, ToolArgumentError, ToolError, ToolServerError, ToolTimeoutError
from .retry import NEVER, Retry, retry_after
from .signature import Signature, read_signature

P = ParamSpec("P", default=...)
R = TypeVar("R", default=Any)

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Tool(Generic[P, R]):
    """A function with a name, a schema and limits. `Tool` without parameters stands for any tool.

    `cap` is the greatest number of calls in flight in one run (the run enforces it), `timeout` the seconds that one
    attempt may take, `cost` what one call adds to a run's usage. An `idempotent` tool may be called again after a
    crash; a call of any other that may have happened is reported, not repeated. The values of the arguments named in
    `secret` never stand in events, records and errors of a run. With `approve` a run asks a person before each call;
    `asks` marks the tool whose calls are questions to a person (`tools.ask_person`).
    """

    name: str
    description: str
    function: Callable[P, R | Awaitable[R]] = field(repr=False)
    signature: Signature = field(repr=False)
    cap: int = 8
    timeout: float = TIMEOUT_SECONDS
    idempotent: bool = False
    retry: Retry = NEVER
    cost: float = 0.0
    secret: tuple[str, ...] = ()
    approve: bool = False
    asks: bool = False

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON schema of the arguments: an object, without references."""
        return self.signature.schema

    @property
    def returns(self) -> Any:
        """The type that the function promises; `Any` if it promises none."""
        return self.signature.returns

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the tool as one calls its function; see `invoke`."""
        return await self.invoke(self._by_name(args, kwargs))

    async def invoke(self, arguments: Mapping[str, object]) -> R:
        """Validate the arguments, run the function under the timeout and the retry policy, validate its result.

        Raises ToolArgumentError, ToolServerError, ToolTimeoutError, and ToolError from whatever the function raised.
        """
        checked = self.signature.check_arguments(arguments)
        try:
            value = await self.retry.call(partial(self._attempt, checked))
        except (ToolServerError, ToolTimeoutError):
            raise
        except (Exception, SystemExit) as error:
            reason = f"tool '{self.name}' failed: {_reason(error)}"
            raise ToolError(reason, retry_after=retry_after(error)) from error
        return cast(R, self.signature.check_result(value))

    async def _attempt(self, arguments: dict[str, Any]) -> R:
        with anyio.move_on_after(self.timeout):
            return await self._run(arguments)
        raise ToolTimeoutError(
            f"tool '{self.name}' took longer than its timeout of {self.timeout:g} seconds; "
            "raise `timeout` if it needs more"
        )

    async def _run(self, arguments: dict[str, Any]) -> R:
        call = cast(Callable[[], R | Awaitable[R]], partial(self.function, **arguments))
        if _is_async(self.function):
            return await cast(Awaitable[R], call())
        # A limiter of its own: a shared one would be held by abandoned calls that hang, and would cap unseen.
        own = anyio.CapacityLimiter(1)
        value = await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=own)
        return await value if inspect.isawaitable(value) else value

    def _by_name(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        names = self.signature.arguments
        if len(args) > len(names):
            raise ToolArgumentError(
                f"tool '{self.name}' was given {len(args)} arguments; it takes {self.signature.text}"
            )
        positional = dict(zip(names, args, strict=False))
        twice = positional.keys() & kwargs.keys()
        if twice:
            raise ToolArgumentError(f"tool '{self.name}': argument '{min(twice)}' is given twice; give it once")
        return positional | dict(kwargs)


class Decorator(Protocol):
    """What `tool(…)` with options returns."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(function: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    name: str = "",
    cap: int = 8,
    timeout: float = TIMEOUT_SECONDS,
    idempotent: bool = False,
    retry: Retry = NEVER,
    cost: float = 0.0,
    secret: tuple[str, ...] = (),
    approve: bool = False,
) -> Decorator: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    cap: int = 8,
    timeout: float = TIMEOUT_SECONDS,
    idempotent: bool = False,
    retry: Retry = NEVER,
    cost: float = 0.0,
    secret: tuple[str, ...] = (),
    approve: bool = False,
) -> Any:
    """Make a tool of a function, sync or async: `@tool`, or `@tool(cap=8, idempotent=True)`.

    The name is the function's unless `name` is given; the description is its docstring, whose "Args:" section
    describes the arguments; the types of the arguments and of the result are checked at every call. A sync function
    runs in a worker thread, which is abandoned when the call is cancelled or times out. Raises InputError for a
    function or a limit that can't be a tool's.
    """
    options: dict[str, Any] = {"cap": cap, "timeout": timeout, "idempotent": idempotent, "retry": retry, "cost": cost}
    options |= {"secret": tuple(secret), "approve": approve}
    decorate = partial(_make_tool, name=name, options=options)
    return decorate if function is None else decorate(function)


def render(value: object) -> str:
    """A result as the text that a model reads: a string as it is, all else as compact JSON. Raises ToolError."""
    if isinstance(value, str):
        return value
    try:
        return to_json(value).decode()
    except (PydanticSerializationError, ValueError) as error:
        raise ToolError(f"a {type(value).__name__} can't be shown to a model: {error}; return text or JSON") from error


# ---- making a tool


def _make_tool(function: Callable[..., Any], *, name: str, options: dict[str, Any]) -> Tool[..., Any]:
    if not callable(function):
        raise InputError(f"@tool was put on {function!r}; put it on a function")
    name = name or getattr(function, "__name__", type(function).__name__)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", name):
        raise InputError(f"'{name}' can't be a tool's name: use at most 64 letters, digits, '_' or '-'; give name='…'")
    _check_limits(name, **{key: value for key, value in options.items() if key not in ("secret", "approve")})
    description, arguments = _read_docstring(inspect.getdoc(function) or "")
    signature = read_signature(function, name, arguments)
    unknown = [argument for argument in options["secret"] if argument not in signature.arguments]
    if unknown:
        raise InputError(f"tool '{name}': secret argument '{unknown[0]}' is none of its own: {signature.text}")
    return Tool(name, description, function, signature, **options)


def _check_limits(name: str, *, cap: int, timeout: float, idempotent: bool, retry: Retry, cost: float) -> None:
    if cap < 1:
        raise InputError(f"tool '{name}': cap={cap} would never let a call start; use 1 or more")
    if not timeout > 0:
        raise InputError(f"tool '{name}': timeout={timeout} would end every call; use seconds above 0, or math.inf")
    if not cost >= 0:
        raise InputError(f"tool '{name}': cost={cost} would refund a budget; use 0 or more")
    if retry.on and not idempotent:
        raise InputError(
            f"tool '{name}' is to be retried but is not marked idempotent; "
            "pass idempotent=True if calling it twice does no harm"
        )


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The text before the "Args:" section, and the section's descriptions by argument."""
    head, found, rest = ("\n" + text).partition("\nArgs:\n")
    if not found:
        return text.strip(), {}
    descriptions: dict[str, str] = {}
    current = ""
    for line in rest.splitlines():
        if line.strip() and not line.startswith(" "):
            break
        entry = re.match(r" {1,4}(\w+)(?: \([^)]*\))?: *(.*)", line)
        if entry:
            current = entry[1]
            descriptions[current] = entry[2].strip()
        elif current and line.strip():
            descriptions[current] += " " + line.strip()
    return head.strip(), descriptions


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, PlaitError):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")
