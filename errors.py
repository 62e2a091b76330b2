"""The errors plait raises: each message names the thing, the value and the way out (DESIGN.md §9)."""

from __future__ import annotations


class PlaitError(Exception):
    """Base of every error that plait raises on purpose; anything else is a bug."""


# ---- graphs and runs


class GraphError(PlaitError):
    """A graph is wrong: a type mismatch, an unused node, a cycle, a missing capability. No token was spent."""


class RunError(PlaitError):
    """A run ended without a result."""


class NodeError(RunError):
    """A node failed; `path` says which, `__cause__` says why."""

    def __init__(self, path: str, cause: BaseException) -> None:
        super().__init__(f"node '{path}' failed: {cause}")
        self.path = path
        self.__cause__ = cause


class NodeTimeoutError(RunError):
    """A node or a tool call took longer than its `timeout`."""


class JoinError(RunError):
    """Too many of several that ran side by side have failed for their join; `__cause__` is the first failure."""


class FormatError(RunError):
    """A model's output does not follow the format that the recipe's driver reads."""


class CutError(FormatError):
    """A model's output was cut by `max_tokens` or the window before its format was complete."""


class BlockError(FormatError):
    """A text's parallel blocks are malformed at `line` and `column`, counted from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


class BudgetError(RunError):
    """A budget is spent."""


class JournalError(PlaitError):
    """A journal can't be read or written, or does not hold the run or the call that was named."""


class MemoryStoreError(PlaitError):
    """A memory can't be opened, read or changed."""


class ReplayError(RunError):
    """A run departs from its record: the graph has changed, or something asks otherwise when it runs again."""


class UncertainCallError(RunError):
    """A call of a tool that is not idempotent may have happened before the run was cut off. It isn't repeated."""


class UnknownNameError(PlaitError):
    """A recipe, engine, tool or other registered name does not exist; the message lists those that do."""


class MissingExtraError(PlaitError):
    """An optional dependency is not installed; the message holds the install command."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra that is not installed: pip install 'plait[{extra}]'")


class InputError(PlaitError):
    """A value given by the caller can't be used."""


class ConfigError(InputError):
    """A configuration file is malformed at `line` and `column`, counted from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


# ---- engines


class EngineError(PlaitError):
    """An engine can't do what was asked."""


class CapabilityError(EngineError):
    """The engine lacks a capability that the call or the graph needs."""


class CheckpointError(EngineError):
    """A checkpoint is missing, broken, or uses a feature that is not supported."""


class ContextError(EngineError):
    """A context is released, foreign to the engine, or the requested edit does not fit it."""


class ContextLengthError(ContextError):
    """A context would outgrow the model's window."""


class PoolError(EngineError):
    """The KV page pool is too small for one request."""


class GrammarError(EngineError):
    """A grammar can't be compiled, or a forced text is not allowed by it."""


class CassetteError(EngineError):
    """A cassette holds no answer to what is asked, or is closed."""


class EngineClosedError(EngineError):
    """The engine was closed while, or before, it was asked."""


class TransientEngineError(EngineError):
    """A fault that may pass: a retry policy may try again, after `retry_after` seconds if the engine named them."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimitError(TransientEngineError):
    """A server asks to slow down."""


class ServerFaultError(TransientEngineError):
    """A server has failed at what it was asked (5xx)."""


class ServerLostError(TransientEngineError):
    """A server can't be reached, or its connection broke before the answer's end."""


class ServerTimeoutError(TransientEngineError):
    """A server took too long to connect, to begin its answer, or to go on with it."""


class AnswerError(TransientEngineError):
    """A server's answer can't be read: it is not of the protocol."""


class RequestError(EngineError):
    """A server refuses what it was asked, and would again."""


class UnknownModelError(RequestError):
    """A server does not have the model, or nothing at that address."""


class AccessError(RequestError):
    """A server refuses the key, or its quota is used up."""


class FilteredError(RequestError):
    """A server withholds the answer: a filter has cut it, or the model refused."""


# ---- tools


class ToolError(PlaitError):
    """A tool call failed; it may be tried again after `retry_after` seconds if the service that it asked named them."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ToolArgumentError(ToolError):
    """The arguments of a tool call don't fit the tool's signature."""


class ToolTimeoutError(ToolError):
    """A tool call took longer than the tool's `timeout`."""


class ToolRefusedError(ToolError):
    """A person was asked whether a tool may be called so, and said no."""


class ToolServerError(ToolError):
    """A server of tools can't be reached, or has ended."""


class DataError(InputError):
    """A data file can't be read; the message names the file and the line."""
