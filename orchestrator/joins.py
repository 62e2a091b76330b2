"""Joins: how many of several that run side by side must succeed, and what becomes of the rest (DESIGN.md §6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from ..errors import GraphError, JoinError

T = TypeVar("T", covariant=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a value: the path of the node that it comes from, the name of its class, what it said."""

    path: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Settled(Generic[T]):
    """How one of several ended: with a value, or with a failure."""

    value: T | None = None
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        return self.failure is None


class Join:
    """When several that run side by side are done. Those still under way then are cancelled at once."""

    __slots__ = ()
    name: ClassVar[str]

    def needs(self, total: int) -> int:
        """Successes after which it is done."""
        return total

    def bears(self, failures: int, total: int) -> bool:
        """Whether it can still be done after so many failures."""
        return total - failures >= self.needs(total)

    def done(self, successes: int, failures: int, total: int) -> bool:
        return successes >= self.needs(total)

    def value(self, values: Mapping[int, Any], failures: Mapping[int, Failure]) -> Any:
        """What comes of the values and failures, by index, in the order in which they ended."""
        return [values[index] for index in sorted(values)]

    def type(self, kind: Any) -> Any:
        """The type of what comes of values of type `kind`."""
        return list[kind]

    def error(self, failures: Sequence[Exception], total: int) -> Exception:
        """What is raised where it can't be done any more."""
        if not failures:
            return JoinError(f"{self} of {total} can never be; give it {self.needs(total)} or more")
        error = JoinError(f"{len(failures)} of {total} failed, too many for {self}; the first said: {failures[0]}")
        error.__cause__ = failures[0]
        return error

    def check(self, total: int, owner: str) -> None:
        """Raise GraphError where it can never be done with so many."""
        if self.needs(total) > total:
            raise GraphError(f"{owner} waits for {self} of {total}, which can never be; use {total} or fewer")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class AllOf(Join):
    """All must succeed; the first failure cancels the others and is raised as it is. Gives a list."""

    name: ClassVar[str] = "all_of"

    def error(self, failures: Sequence[Exception], total: int) -> Exception:
        return failures[0]


@dataclass(frozen=True, slots=True)
class AnyOf(Join):
    """The first success wins. Gives its value."""

    name: ClassVar[str] = "any_of"

    def needs(self, total: int) -> int:
        return 1

    def value(self, values: Mapping[int, Any], failures: Mapping[int, Failure]) -> Any:
        return next(iter(values.values()))

    def type(self, kind: Any) -> Any:
        return kind


@dataclass(frozen=True, slots=True)
class KOf(Join):
    """The first `k` successes win. Gives a list of them, in the order in which they were asked for."""

    name: ClassVar[str] = "k_of"
    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise GraphError(f"k_of({self.k}) waits for nothing; use 1 or more")

    def needs(self, total: int) -> int:
        return self.k

    def __str__(self) -> str:
        return f"k_of({self.k})"


@dataclass(frozen=True, slots=True)
class AllSettled(Join):
    """All must end. Gives a list of `Settled`: failures are values."""

    name: ClassVar[str] = "settled"

    def bears(self, failures: int, total: int) -> bool:
        return True

    def done(self, successes: int, failures: int, total: int) -> bool:
        return successes + failures == total

    def value(self, values: Mapping[int, Any], failures: Mapping[int, Failure]) -> Any:
        ended = {index: Settled(value) for index, value in values.items()}
        ended |= {index: Settled(failure=failure) for index, failure in failures.items()}
        return [ended[index] for index in sorted(ended)]

    def type(self, kind: Any) -> Any:
        return list[Settled[kind]]


all_of: Final = AllOf()
any_of: Final = AnyOf()
settled: Final = AllSettled()


def k_of(k: int) -> KOf:
    """The first `k` that succeed; the others are cancelled."""
    return KOf(k)
