"""Budgets: what a run, a node or a tool may spend, reserved before it is spent (DESIGN.md §6)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from ..errors import BudgetError, InputError
from ..usage import Usage
from .meter import Meter

if TYPE_CHECKING:
    from ..tools import Tool
    from .graph import Graph

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost: encoded ones, those that the cache had, generated ones.

    A server is sent a whole context for each generation, and charges for all of it: what was given before is encoded
    again (`recomputed`) or cached.
    """

    prompt: float = 0.0
    generated: float = 0.0
    cached: float = 0.0

    def of(self, usage: Usage) -> float:
        encoded = usage.prefilled + usage.recomputed
        return (encoded * self.prompt + usage.cached * self.cached + usage.generated * self.generated) / _MILLION


FREE = Price()


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent: `tokens` (given and generated), tool `calls`, wall-clock `seconds`, `cost`.

    `nodes` are budgets of nodes by path (a node that holds a graph or grows others: of all in it), `tools` of tools by
    name; an operation is held to all that it falls under. `prices` are by engine name, in the currency of `cost`; one
    without an address (`openai:MODEL`) stands for the model at any. What a server itself says that a request has cost
    goes before its price.

    A generation reserves the tokens that it may sample, a call itself and its tool's cost; while too little is left
    they wait for what others give back, and a generation is held to what is left then. A prompt's tokens are known
    only when they are encoded: tokens and cost can exceed a budget by the prompts that are under way when it ends, and
    by nothing else. Rejected drafts, judges, retries and failed calls are charged like all others.
    """

    tokens: float = math.inf
    calls: float = math.inf
    seconds: float = math.inf
    cost: float = math.inf
    nodes: Mapping[str, Budget] = field(default_factory=dict)
    tools: Mapping[str, Budget] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tokens", "calls", "seconds", "cost"):
            value = getattr(self, name)
            if not value >= 0:
                raise InputError(f"budget {name}={value} can't be kept; use 0 or more, or leave it out for no limit")
        for place, inner in {**self.nodes, **self.tools}.items():
            if inner.nodes or inner.tools or inner.prices:
                raise InputError(
                    f"the budget of '{place}' holds others or prices; give them to the run's, by full path"
                )

    def check(self, graph: Graph[Any], engines: Sequence[str]) -> None:
        """Raise InputError for a budget of a node that the graph has not, and for prices that leave an engine out."""
        for path in self.nodes:
            if graph.find(path.partition("/")[0]) is None:
                known = ", ".join(node.name for node in graph.nodes)
                raise InputError(f"a budget names node '{path}', which graph '{graph.name}' has not; it has {known}")
        for engine in engines:
            if self.prices and self.price(engine) is None:
                raise InputError(
                    f"the prices of the budget are for {', '.join(self.prices)}, not for the run's engine '{engine}'; "
                    "add its price, or Price() if it costs nothing"
                )

    def price(self, engine: str) -> Price | None:
        """The price of an engine, by its name or by that without the address."""
        model, at, _ = engine.partition("@http")
        return self.prices.get(engine) or (self.prices.get(model) if at else None)

    @property
    def limits(self) -> bool:
        """Whether it limits anything itself."""
        return min(self.tokens, self.calls, self.seconds, self.cost) < math.inf


UNBOUNDED = Budget()


class Ledger:
    """One budget, what its meter says was spent, and what is reserved beside."""

    __slots__ = ("began", "budget", "calls", "cost", "meter", "name", "tokens")

    def __init__(self, name: str, budget: Budget, meter: Meter) -> None:
        self.name = name
        self.budget = budget
        self.meter = meter
        self.tokens = self.calls = 0
        self.cost = 0.0
        self.began = time.perf_counter()

    def left_tokens(self) -> float:
        return self.budget.tokens - self.meter.count("prompt") - self.meter.count("generated")

    def left_calls(self) -> float:
        return self.budget.calls - self.meter.count("calls")

    def left_cost(self) -> float:
        return self.budget.cost - self.meter.count("cost")

    @property
    def left_seconds(self) -> float:
        return self.budget.seconds - (time.perf_counter() - self.began)

    @property
    def busy(self) -> bool:
        """Whether others may still give back what they have reserved."""
        return bool(self.tokens or self.calls)

    def spent(self, what: str) -> BudgetError:
        limit = getattr(self.budget, what)
        return BudgetError(f"the budget of {self.name} is spent: {what}={limit:g}; raise it")

    def check(self) -> None:
        """Raise BudgetError where nothing is left to begin anything with."""
        for what, left in (("tokens", self.left_tokens()), ("seconds", self.left_seconds), ("cost", self.left_cost())):
            if left <= 0:
                raise self.spent(what)


class Accounts:
    """The ledgers of one run. `engines` are the names of those that it is run on."""

    def __init__(self, budget: Budget, engines: Sequence[str]) -> None:
        self.budget = budget
        self.prices = {engine: budget.price(engine) or FREE for engine in engines}
        self.dearest = max(self.prices.values(), key=lambda price: price.generated, default=FREE)
        self._tools: dict[str, Ledger] = {}
        self._given_back = anyio.Event()

    def of_node(self, path: str, meter: Meter) -> tuple[Ledger, ...]:
        """The ledger that a node opens, if it has a budget of its own."""
        budget = self.budget.nodes.get(path) if path else self.budget
        if budget is None or not budget.limits:
            return ()
        return (Ledger(f"node '{path}'" if path else "the run", budget, meter),)

    def of_tool(self, tool: Tool) -> tuple[Ledger, ...]:
        if tool.name not in self.budget.tools:
            return ()
        if tool.name not in self._tools:
            self._tools[tool.name] = Ledger(f"tool '{tool.name}'", self.budget.tools[tool.name], Meter())
        return (self._tools[tool.name],)

    def priced(self, usage: Usage, engine: str) -> Usage:
        """A usage with what the engine's tokens cost, unless a server has said so itself."""
        price = self.prices.get(engine, self.dearest)
        return usage if price is FREE or usage.cost else replace(usage, cost=price.of(usage))

    async def reserve_tokens(self, ledgers: Sequence[Ledger], wanted: int, *, whole: bool = False) -> Reservation:
        """Leave to sample so many tokens, or as many as are left (never fewer, if `whole`). Raises BudgetError."""
        each = self.dearest.generated / _MILLION
        while True:
            allowed = float(wanted)
            narrow: Ledger | None = None
            for ledger in ledgers:
                ledger.check()
                left = ledger.left_tokens() - ledger.tokens
                if each:
                    left = min(left, math.floor((ledger.left_cost() - ledger.cost) / each + 1e-9))
                if left < allowed:
                    allowed, narrow = left, ledger
            if narrow is None or (not narrow.busy and allowed >= 1 and not whole):
                return Reservation(self, ledgers, tokens=int(allowed), cost=int(allowed) * each)
            if not narrow.busy:
                raise narrow.spent("tokens" if narrow.left_tokens() < wanted else "cost")
            await self._given_back.wait()

    async def reserve_call(self, ledgers: Sequence[Ledger], cost: float) -> Reservation:
        """Leave to make one call. Raises BudgetError."""
        while True:
            narrow: Ledger | None = None
            for ledger in ledgers:
                if ledger.left_seconds <= 0:
                    raise ledger.spent("seconds")
                if ledger.left_calls() < 1:
                    raise ledger.spent("calls")
                if cost and ledger.left_cost() < cost - 1e-12:
                    raise ledger.spent("cost")
                if ledger.left_calls() - ledger.calls < 1 or ledger.left_cost() - ledger.cost < cost - 1e-12:
                    narrow = ledger
            if narrow is None:
                return Reservation(self, ledgers, calls=1, cost=cost)
            await self._given_back.wait()

    def give_back(self) -> None:
        self._given_back.set()
        self._given_back = anyio.Event()


class Reservation:
    """What one operation may spend, until it is settled: then its meter says what it did spend."""

    __slots__ = ("_accounts", "_calls", "_cost", "_ledgers", "_open", "tokens")

    def __init__(
        self, accounts: Accounts, ledgers: Sequence[Ledger], *, tokens: int = 0, calls: int = 0, cost: float = 0.0
    ) -> None:
        self.tokens = tokens
        self._accounts = accounts
        self._ledgers = ledgers
        self._calls = calls
        self._cost = cost
        self._open = True
        for ledger in ledgers:
            ledger.tokens += tokens
            ledger.calls += calls
            ledger.cost += cost

    def settle(self) -> None:
        """Idempotent."""
        if not self._open:
            return
        self._open = False
        for ledger in self._ledgers:
            ledger.tokens -= self.tokens
            ledger.calls -= self._calls
            ledger.cost = ledger.cost - self._cost if ledger.busy else 0.0
        self._accounts.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()
