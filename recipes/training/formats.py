"""The exact text of a solved question in each format, as pieces that the model writes or the runtime inserts.

`tree` is TIM's JSON, `hybrid` and `serial_search` are HybridDeepSearcher's queries (all at once, one a turn) and
`calls` is the function-call batches of Divide-Then-Aggregate.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from .facts_tasks import UNKNOWN, Operand, Problem, Side, answer, calculate, expression, resolve, side_text, value

FactFormat = Literal["tree", "hybrid", "serial_search", "calls"]
FACT_FORMATS: tuple[FactFormat, ...] = ("tree", "hybrid", "serial_search", "calls")
Lookup = tuple[str, str]

END = "<eos>"
ASSISTANT = "<|a|>"
PROMPT_TAGS = ("<|tree|>", "<|hybrid|>", "<|serial_search|>", "<|calls|>", "<|serial|>", "<|parallel|>")

QUERIES = ("<|begin_search_queries|>", "<|end_search_queries|>")
RESULTS = ("<|begin_search_results|>", "<|end_search_results|>")
CALCULATION = ("<|begin_calculation|>", "<|end_calculation|>")
CALCULATED = ("<|begin_calculation_result|>", "<|end_calculation_result|>")
BOXED = "\\boxed{"

TREE_OPEN = '{"reasoning":['
THOUGHT = '{"thought":"'
LOOKUP = '","tooluse":{"tool_name":"lookup","parameters":{"query":"'
CALCULATE = '","tooluse":{"tool_name":"calculate","parameters":{"expression":"'
TOOL_RESULT = '"},"tool_result":"'
CONCLUSION = '"},"conclusion":"'
SUBTASKS = '","subtasks":['
NEXT_THOUGHT = '"},' + THOUGHT
NODE_CONCLUSION = '"}],"conclusion":"'
TREE_ANSWER = '"}],"answer":"'
TREE_CLOSE = '"}'

FUNCTION_CALL = "\nFunction Call: ["
LOOK_UP_TURN = "Thought: look up" + FUNCTION_CALL
CALCULATE_TURN = "Thought: calculate" + FUNCTION_CALL
FINISH_TURN = "Thought: finish" + FUNCTION_CALL
LOOKUP_CALL = '{"name":"lookup","arguments":{"query":"'
CALCULATE_CALL = '{"name":"calculate","arguments":{"expression":"'
FINISH_CALL = '{"name":"Finish","arguments":{"return_type":"give_answer","final_answer":"'
NEXT_LOOKUP_CALL = '"}},' + LOOKUP_CALL
CALLS_END = '"}}]'
OBSERVATION = "Observation: ["
OBSERVED = '"},"result":"'
NEXT_OBSERVED = '"},' + LOOKUP_CALL
OBSERVATION_END = '"}]\n'


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a document: written by the model (`learnt`), or given to it (prompt, tool result, join)."""

    text: str
    learnt: bool


Document = tuple[Piece, ...]


def prompt(tag: str, question: str) -> Piece:
    """The compact prompt that the chat template makes."""
    return Piece(f"<|{tag}|>{question}{ASSISTANT}", False)


def joined(pieces: Iterable[Piece]) -> Document:
    """The same document with neighbours of one kind merged, because insertions are what splits the tokens."""
    return tuple(
        Piece("".join(piece.text for piece in group), learnt)
        for learnt, group in groupby(pieces, key=lambda piece: piece.learnt)
    )


def document(format_name: FactFormat, asked: Problem) -> Document:
    """The solved question in one format."""
    if format_name == "tree":
        return tree(asked)
    if format_name == "calls":
        return calls(asked)
    return queries(asked) if format_name == "hybrid" else serial_queries(asked)


def tree(asked: Problem) -> Document:
    """TIM's task tree: one leaf a tool use, one node a side or a chain of relations, depth first."""
    writer = _TreeWriter(asked)
    writer.write()
    return joined([prompt("tree", asked.question), *writer.pieces])


def queries(asked: Problem) -> Document:
    """All independent look-ups of a turn at once: relations round by round, then every figure in question order."""
    return _searched("hybrid", asked, rounds(asked))


def serial_queries(asked: Problem) -> Document:
    """One look-up a turn, operand by operand."""
    chains = [resolve(asked, operand) for operand in asked.operands]
    return _searched("serial_search", asked, [[found] for chain in chains for found in chain])


def calls(asked: Problem) -> Document:
    """Function-call batches with thoughts, ended by `Finish`."""
    pieces = [prompt("calls", asked.question)]
    for turn in _until_unknown(rounds(asked)):
        arguments = NEXT_LOOKUP_CALL.join(_escaped(query) for query, _ in turn)
        pieces.append(Piece(f"{LOOK_UP_TURN}{LOOKUP_CALL}{arguments}{CALLS_END}\n", True))
        observed = NEXT_OBSERVED.join(f"{_escaped(query)}{OBSERVED}{_escaped(found)}" for query, found in turn)
        pieces.append(Piece(f"{OBSERVATION}{LOOKUP_CALL}{observed}{OBSERVATION_END}", False))
    if _calculates(asked):
        joint = expression(asked)
        pieces.append(Piece(f"{CALCULATE_TURN}{CALCULATE_CALL}{joint}{CALLS_END}\n", True))
        observed = f"{joint}{OBSERVED}{calculate(joint)}"
        pieces.append(Piece(f"{OBSERVATION}{CALCULATE_CALL}{observed}{OBSERVATION_END}", False))
    pieces.append(Piece(f"{FINISH_TURN}{FINISH_CALL}{_escaped(answer(asked))}{CALLS_END}{END}", True))
    return joined(pieces)


def rounds(asked: Problem) -> list[list[Lookup]]:
    """The look-ups that do not wait for each other: first relations, depth by depth, then all figures."""
    operands = asked.operands
    chains = [resolve(asked, operand) for operand in operands]
    deepest = max(len(operand.relations) for operand in operands)
    related = [
        [
            chain[depth]
            for operand, chain in zip(operands, chains, strict=True)
            if depth < min(len(operand.relations), len(chain))
        ]
        for depth in range(deepest)
    ]
    return [*related, [chain[-1] for chain in chains]]


def _searched(tag: str, asked: Problem, turns: list[list[Lookup]]) -> Document:
    pieces = [prompt(tag, asked.question)]
    for turn in _until_unknown(turns):
        pieces.append(Piece(QUERIES[0] + ";\n".join(query for query, _ in turn) + QUERIES[1], True))
        found = "".join(f"\n{query}: {result}" for query, result in turn)
        pieces.append(Piece(RESULTS[0] + found + RESULTS[1], False))
    if _calculates(asked):
        joint = expression(asked)
        pieces.append(Piece(f"{CALCULATION[0]}{joint}{CALCULATION[1]}", True))
        pieces.append(Piece(f"{CALCULATED[0]}{calculate(joint)}{CALCULATED[1]}", False))
    pieces.append(Piece(f"{BOXED}{answer(asked)}}}{END}", True))
    return joined(pieces)


def _until_unknown(turns: list[list[Lookup]]) -> Iterable[list[Lookup]]:
    for turn in turns:
        yield turn
        if any(found == UNKNOWN for _, found in turn):
            return


def _calculates(asked: Problem) -> bool:
    return len(asked.operands) > 1 and answer(asked) != UNKNOWN


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


class _UnknownError(Exception):
    """A look-up found nothing: the tree closes."""


@dataclass(slots=True)
class _TreeWriter:
    """Writes a tree depth first; every value ends open, since what closes it depends on what follows."""

    asked: Problem
    pieces: list[Piece] = field(default_factory=list)
    open_nodes: int = 0

    def write(self) -> None:
        self._say(TREE_OPEN + THOUGHT)
        try:
            self._reason()
        except _UnknownError:
            self._say((NODE_CONCLUSION + UNKNOWN) * self.open_nodes)
        self._say(TREE_ANSWER + _escaped(answer(self.asked)) + TREE_CLOSE + END)

    def _reason(self) -> None:
        results = []
        for index, side in enumerate(self.asked.sides):
            if index:
                self._say(NEXT_THOUGHT)
            results.append(self._side(side))
        if len(results) == 2:
            self._say(NEXT_THOUGHT)
            thought = "subtract" if self.asked.kind == "difference" else "compare"
            self._leaf(thought, CALCULATE, expression_of(self.asked, results))

    def _side(self, side: Side) -> str:
        if len(side) == 1:
            return self._operand(side[0])
        self._open(f"{self.asked.attribute} of {side_text(side)}")
        values = []
        for operand in side:
            values.append(self._operand(operand))
            self._say(NEXT_THOUGHT)
        return self._close(self._leaf("add", CALCULATE, "+".join(values)))

    def _operand(self, operand: Operand) -> str:
        chain = resolve(self.asked, operand)
        if not operand.relations:
            return self._leaf(chain[0][0], LOOKUP, chain[0][0], chain[0][1])
        self._open(f"{self.asked.attribute} of {operand.text}")
        for index, (query, found) in enumerate(chain):
            if index:
                self._say(NEXT_THOUGHT)
            self._leaf(query, LOOKUP, query, found)
        return self._close(value(self.asked, operand))

    def _leaf(self, thought: str, tool: str, argument: str, result: str = "") -> str:
        result = result or calculate(argument)
        self._say(_escaped(thought) + tool + _escaped(argument) + TOOL_RESULT)
        self.pieces.append(Piece(_escaped(result), False))
        self._say(CONCLUSION + _escaped(result))
        if result == UNKNOWN:
            raise _UnknownError
        return result

    def _open(self, thought: str) -> None:
        self._say(_escaped(thought) + SUBTASKS + THOUGHT)
        self.open_nodes += 1

    def _close(self, result: str) -> str:
        self._say(NODE_CONCLUSION + _escaped(result))
        self.open_nodes -= 1
        return result

    def _say(self, text: str) -> None:
        self.pieces.append(Piece(text, True))


def expression_of(asked: Problem, results: list[str]) -> str:
    """The last calculation of a tree, over the sides' conclusions."""
    word = {"difference": "sub", "larger": "max", "smaller": "min"}[asked.kind]
    return f"{word} {results[0]},{results[1]}"
