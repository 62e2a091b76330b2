"""Questions over facts: a problem holds its operands and the facts that a look-up would find, and knows its answer."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from . import names, phrases
from .names import NameSource
from .phrases import Kind

UNKNOWN = "unknown"
Facts = dict[tuple[str, str], str]

_NUMBER = r"-?\d+(?:\.\d+)?"
_SUM = rf"{_NUMBER}(?:\+{_NUMBER})*"
_EXPRESSION = re.compile(rf"(?:(?P<operation>max|min|sub) (?P<left>{_SUM}),)?(?P<right>{_SUM})")
_COMMON_NUMBER_ATTRIBUTES = ("people", "people", "population", "population", "area")
_COMMON_TEXT_ATTRIBUTES = ("capital", "currency", "continent", "neighbours", "neighbors", "language", "leader")


@dataclass(frozen=True, slots=True)
class Operand:
    """One figure of a question: an entity behind relations (outermost first), and the words that the question uses."""

    entity: str
    relations: tuple[str, ...] = ()
    said: str = ""

    @property
    def text(self) -> str:
        """The operand without articles before names: what thoughts and answers use."""
        return "".join(f"the {relation} of " for relation in self.relations) + self.entity


Side = tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its operands on one or two sides, and the facts that are known."""

    kind: Kind
    attribute: str
    sides: tuple[Side, ...]
    facts: Facts
    question: str

    @property
    def operands(self) -> Side:
        """All operands in the order of the question."""
        return tuple(operand for side in self.sides for operand in side)


@dataclass(frozen=True, slots=True)
class Style:
    """What a generator may draw: kinds, sizes, names and words."""

    kinds: tuple[Kind, ...] = (
        ("number", "number", "text", "text", "text")
        + ("total",) * 4
        + ("difference",) * 4
        + (("larger",) * 3 + ("smaller",) * 3)
    )
    side_sizes: tuple[int, ...] = (1, 1, 1, 2, 2, 2, 3, 3, 3, 4)
    total_sizes: tuple[int, ...] = (2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6, 7)
    hop_chances: tuple[float, ...] = (0.0, 0.0, 0.3, 0.6)
    most_hops: int = 2
    least_hops: int = 0
    most_figures: int = 8
    unknown_chance: float = 0.09
    digits: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10)
    decimal_chance: float = 0.05
    source: NameSource = names.name
    varied_names: bool = True
    attributes: tuple[str, ...] = ()
    text_attributes: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()


SMALL = Style(side_sizes=(1, 1, 2), total_sizes=(2, 3), hop_chances=(0.0, 0.4), most_hops=1, digits=(1, 2, 3, 4))


def problem(rng: random.Random, style: Style = Style()) -> Problem:
    """Draw a question with its facts."""
    return _Draft(rng, style).problem()


def resolve(asked: Problem, operand: Operand) -> list[tuple[str, str]]:
    """The look-ups of an operand, innermost relation first, with their results; ends at the first unknown."""
    entity = operand.entity
    found: list[tuple[str, str]] = []
    for attribute in (*reversed(operand.relations), asked.attribute):
        result = asked.facts.get((attribute, entity), UNKNOWN)
        found.append((f"{attribute} of {entity}", result))
        if result == UNKNOWN:
            break
        entity = result
    return found


def value(asked: Problem, operand: Operand) -> str:
    """What the last look-up of an operand gives."""
    return resolve(asked, operand)[-1][1]


def lookup(asked: Problem, query: str) -> str:
    """The result of one query, as the tool would give it."""
    for (attribute, entity), found in asked.facts.items():
        if query == f"{attribute} of {entity}":
            return found
    return UNKNOWN


def expression(asked: Problem) -> str:
    """The calculation that joins all figures; empty for a single fact."""
    if len(asked.operands) == 1:
        return ""
    sums = ["+".join(value(asked, operand) for operand in side) for side in asked.sides]
    return sums[0] if len(sums) == 1 else f"{operation(asked)} {sums[0]},{sums[1]}"


def operation(asked: Problem) -> str:
    """The calculator's word for a two-sided question."""
    return {"difference": "sub", "larger": "max", "smaller": "min"}[asked.kind]


def answer(asked: Problem) -> str:
    """The right answer: a value, a side in the question's words, `equal` or `unknown`."""
    if any(value(asked, operand) == UNKNOWN for operand in asked.operands):
        return UNKNOWN
    if len(asked.operands) == 1:
        return value(asked, asked.operands[0])
    result = calculate(expression(asked))
    if result == "first":
        return side_text(asked.sides[0])
    return side_text(asked.sides[1]) if result == "second" else result


def side_text(side: Side) -> str:
    """A side in words: `Chile plus the capital of Peru`."""
    return " plus ".join(operand.text for operand in side)


def calculate(text: str) -> str:
    """The calculator's answer: a sum, or `max`, `min` or `sub` of two sums; `error` if the text is none of these."""
    match = _EXPRESSION.fullmatch(text)
    if not match:
        return "error"
    right = _sum(match["right"])
    if not match["operation"]:
        return _plain(right)
    difference = _sum(match["left"]) - right
    if match["operation"] == "sub":
        return _plain(difference)
    if not difference:
        return "equal"
    return "first" if (difference > 0) == (match["operation"] == "max") else "second"


def _sum(text: str) -> Decimal:
    return sum((Decimal(number) for number in text.split("+")), Decimal(0))


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(slots=True)
class _Draft:
    """A problem being drawn."""

    rng: random.Random
    style: Style
    used: set[str] = field(default_factory=set)
    facts: Facts = field(default_factory=dict)
    kind: Kind = "number"
    attribute: str = ""
    decimals: bool = False
    source: NameSource = names.name

    def problem(self) -> Problem:
        rng, style = self.rng, self.style
        self.kind = rng.choice(style.kinds)
        self.attribute = self._attribute()
        self.decimals = rng.random() < style.decimal_chance
        self.source = self._source()
        sides = self._sides()
        asked = Problem(self.kind, self.attribute, sides, self.facts, self._question(sides))
        if style.unknown_chance and rng.random() < style.unknown_chance:
            del self.facts[rng.choice(list(self.facts))]
        elif self.kind in ("larger", "smaller") and len(self.facts) == 2 and rng.random() < 0.1:
            first, second = self.facts
            self.facts[second] = self.facts[first]
        return asked

    def _attribute(self) -> str:
        style, rng = self.style, self.rng
        fixed = style.text_attributes if self.kind == "text" else style.attributes
        if fixed:
            return rng.choice(fixed)
        common = _COMMON_TEXT_ATTRIBUTES if self.kind == "text" else _COMMON_NUMBER_ATTRIBUTES
        if rng.random() < (0.45 if self.kind == "text" else 0.3):
            return rng.choice(common)
        return self._unseen_word(names.TEXT_ATTRIBUTES if self.kind == "text" else names.NUMBER_ATTRIBUTES)

    def _unseen_word(self, known: Sequence[str]) -> str:
        held_out = names.HELD_OUT_ATTRIBUTES + names.HELD_OUT_TEXT_ATTRIBUTES + names.HELD_OUT_RELATIONS
        word = names.common_word(self.rng, known)
        return self._unseen_word(known) if word in held_out else word

    def _source(self) -> NameSource:
        if not self.style.varied_names:
            return self.style.source
        draw = self.rng.random()
        if draw < 0.10:
            return names.with_initial(self.rng.choice("ABCDEFGHIKLMNPRSTU"), self.style.source)
        if draw < 0.20:
            return names.several_words
        return names.real_name if draw < 0.35 else self.style.source

    def _sides(self) -> tuple[Side, ...]:
        style, rng = self.style, self.rng
        single = self.kind in ("number", "text")
        if single:
            sizes = [1]
        elif self.kind == "total":
            sizes = [rng.choice(style.total_sizes)]
        else:
            sizes = [rng.choice(style.side_sizes), rng.choice(style.side_sizes)]
        chance = 0.5 if single else rng.choice(style.hop_chances)
        most = style.most_hops + (1 if single and style.most_hops > 1 and rng.random() < 0.06 else 0)
        budget = max(style.most_figures - sum(sizes), style.least_hops * sum(sizes))
        return tuple(tuple(self._operand(chance, min(most, budget)) for _ in range(size)) for size in sizes)

    def _operand(self, chance: float, most: int) -> Operand:
        rng, style = self.rng, self.style
        hops = style.least_hops
        while hops < most and rng.random() < chance:
            hops += 1
        if hops and len(self.facts) + hops > style.most_figures > 0 and not style.least_hops:
            hops = 0
        relations = tuple(self._relation() for _ in range(hops))
        entity = current = self._entity()
        for relation in reversed(relations):
            following = self._entity()
            self.facts[relation, current] = following
            current = following
        self.facts[self.attribute, current] = self._value()
        return Operand(entity, relations, self._said(entity, relations))

    def _relation(self) -> str:
        fixed = self.style.relations
        relation = self.rng.choice(fixed) if fixed else self._unseen_word(names.RELATIONS)
        return names.letters(self.rng, 4, 7) if relation == self.attribute else relation

    def _entity(self) -> str:
        drawn = self.source(self.rng)
        for _ in range(50):
            if drawn not in self.used and (drawn not in names.HELD_OUT_NAMES or not self.style.varied_names):
                break
            drawn = self.source(self.rng)
        else:
            drawn = names.syllables(self.rng).capitalize() + names.letters(self.rng, 3, 5)
        self.used.add(drawn)
        return drawn

    def _value(self) -> str:
        rng = self.rng
        if self.kind == "text":
            return names.text_value(rng, self.source)
        if self.decimals:
            return f"{rng.randint(0, 10 ** rng.randint(0, 4))}.{rng.randint(1, 99)}"
        return str(rng.randint(0, 10 ** rng.choice(self.style.digits) - 1))

    def _said(self, entity: str, relations: tuple[str, ...]) -> str:
        rng = self.rng
        article = rng.random() < (0.75 if entity in names.ARTICLE_NAMES else 0.02)
        said = f"the {entity}" if article else entity
        inner = relations
        if relations and rng.random() < 0.05:
            said, inner = f"{said}'s {relations[-1]}", relations[:-1]
        return "".join(f"the {relation} of " for relation in inner) + said

    def _question(self, sides: tuple[Side, ...]) -> str:
        rng = self.rng
        listed = self._list(sides[0]) if self.kind == "total" else _plus(sides[0])
        text = self._phrase(sides).format(a=self.attribute, x=listed, y=_plus(sides[-1]))
        if rng.random() < 0.02:
            text = text[0].lower() + text[1:]
        return text.rstrip("?") if rng.random() < 0.03 else text

    def _phrase(self, sides: tuple[Side, ...]) -> str:
        rng = self.rng
        special = phrases.ABOUT_ONE_ATTRIBUTE.get(self.attribute, {}).get(self.kind, ())
        if special and rng.random() < 0.75:
            return rng.choice(special)
        if self.kind in ("number", "text") and not sides[0][0].relations and rng.random() < 0.12:
            return rng.choice(phrases.POSSESSIVE)
        return rng.choice(phrases.GENERAL[self.kind])

    def _list(self, side: Side) -> str:
        said = [operand.said for operand in side]
        draw = self.rng.random()
        if draw < 0.12:
            return " plus ".join(said)
        comma = "," if draw < 0.27 and len(said) > 2 else ""
        return ", ".join(said[:-1]) + f"{comma} and {said[-1]}"


def _plus(side: Side) -> str:
    return " plus ".join(operand.said for operand in side)
