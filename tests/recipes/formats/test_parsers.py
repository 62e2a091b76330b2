"""Parsers of tool calls: each format's own texts, and hostile ones in any cut."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import FormatError, UnknownNameError
from plait.recipes.formats import FORMATS, Answer, GiveUp, Ids, Move, ToolCall, detect_format, find_format

CASES = 10_000
THINKING = "<think>\n<tool_call>no</tool_call></think>\n\n"


def call(query: str) -> ToolCall:
    return ToolCall("", "lookup", {"query": query})


CALLS = [call('people of "Peru"'), call("Chile }] {")]


def write(name: str, calls: list[ToolCall]) -> str:
    return find_format(name).say(calls[:1] if name == "react" else calls)


def read(name: str, pieces: list[str]) -> tuple[list[Move], str]:
    """The moves of a turn, and what its end complains of."""
    parser = find_format(name).parser(Ids())
    moves = [move for piece in pieces for move in parser.feed(piece)]
    try:
        return moves + parser.end(), ""
    except FormatError as error:
        return moves, str(error)


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({place for place in places if place < len(text)})
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


@pytest.mark.parametrize("name", FORMATS)
def test_calls_are_read_in_order_each_with_an_id_of_its_own(name: str) -> None:
    moves, complaint = read(name, [write(name, CALLS)])
    calls = [move for move in moves if isinstance(move, ToolCall)]
    assert not complaint
    assert [call.arguments for call in calls] == [call.arguments for call in CALLS][: 1 if name == "react" else 2]
    assert len({call.id for call in calls}) == len(moves) == len(calls)


@pytest.mark.parametrize("name", FORMATS)
def test_a_call_is_there_as_soon_as_its_text_is_complete(name: str) -> None:
    text = write(name, CALLS)
    parser, found = find_format(name).parser(Ids()), []
    for place, letter in enumerate(text):
        found += [(place, move) for move in parser.feed(letter)]
    assert isinstance(found[0][1], ToolCall)
    assert found[0][0] < len(text) - 1 or name == "hermes"
    if name != "react":  # the first is under way while the second is being written
        assert found[0][0] < text.index("Chile")


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_ends_the_conversation(name: str) -> None:
    assert read(name, [find_format(name).conclude("42")]) == ([Answer("42")], "")


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_turn_is_a_named_error(name: str) -> None:
    moves, complaint = read(name, [])
    assert (moves, bool(complaint)) == ([], True)


def test_what_is_thought_calls_nothing() -> None:
    assert read("hermes", [f"{THINKING}42"]) == ([Answer("42")], "")


def test_giving_up_is_a_move() -> None:
    text = find_format("dta").conclude("42").replace("give_answer", "give_up_and_restart")
    assert read("dta", [text]) == ([GiveUp()], "")


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("hermes", '<tool_call>{"name": 1}</tool_call>', "with 'name'"),
        ("hermes", "<tool_call>{</tool_call>", "not JSON"),
        ("hermes", '<tool_call>{"name": "a", "arguments": ' + "[" * 5000 + "</tool_call>", "nests deeper"),
        ("hermes", '<tool_call>{"name": "a", "arguments": ' + "[" * 80 + "]" * 80 + "}</tool_call>", "nests deeper"),
        ("llama", '{"name": "a", "parameters": {}}; {"name": "b"', "not JSON"),
        ("openai", '{"tool_calls": [{"function": {"name": "a", "arguments": "{"}}]}', "not a JSON object"),
        ("openai", '{"tool_calls": [7]}', "not 7"),
        ("react", "Action: a\nAction Input: Peru\nObservation:", "not a JSON object"),
    ],
)
def test_a_call_that_cannot_be_read_says_what_is_wrong(name: str, text: str, wrong: str) -> None:
    moves, complaint = read(name, [text])
    assert not complaint
    assert isinstance(moves[-1], ToolCall)
    assert wrong in moves[-1].error


def test_ids_that_a_model_chooses_twice_stay_apart() -> None:
    twice = [{"id": "same", "function": {"name": "a", "arguments": {}}}] * 2
    moves, _ = read("openai", [json.dumps({"tool_calls": twice})])
    assert [move.id for move in moves if isinstance(move, ToolCall)] == ["same", "call_2"]


def test_what_is_no_call_is_an_answer_in_json() -> None:
    assert read("llama", ['{"total": 3}']) == ([Answer('{"total": 3}')], "")


HOSTILE = [
    *(write(name, CALLS) for name in FORMATS),
    *(form.conclude("42") for form in FORMATS.values()),
    THINKING,
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>", "Function Call: ", "\nFunction Call: ["),
    *("Action:", "\nAction: a", "\nAction Input:", "Final Answer:", "\nObservation:", "\\boxed{", ";\n", "Finish"),
    *("<|begin_search_queries|>", "<|end_search_queries|>", "<|begin_calculation|>", "<|end_calculation|>"),
    *(
        '{"name":',
        '"arguments":',
        '{"tool_calls":[',
        '{"function":{',
        "}",
        "]",
        "[",
        "{",
        '"',
        "\\",
        ",",
        ":",
        "\n",
        " ",
    ),
    *(
        "1e999",
        "NaN",
        "-",
        "9" * 5000,
        "[" * 70,
        "{" * 300,
        "\ud800",
        "\udcff",
        "é",
        "\U0001f600",
        "\0",
        "\u2028",
        "<|",
    ),
]


def hostile(random: Random) -> str:
    """Pieces of all formats, whole, cut and mixed."""
    pieces = random.choices(HOSTILE, k=random.randint(0, 12))
    return "".join(piece[: random.randint(0, len(piece))] if random.random() < 0.3 else piece for piece in pieces)


def test_hostile_text_in_any_cut_gives_the_same_moves_and_no_unnamed_error() -> None:
    random, names = Random(6), list(FORMATS)
    for case in range(CASES):
        name, text = names[case % len(names)], hostile(random)
        pieces = cut(text, [random.randrange(len(text) + 1) for _ in range(random.randint(1, 12))])
        moves, complaint = read(name, [text])
        assert read(name, pieces) == (moves, complaint), (name, pieces)
        assert moves or complaint or "Action" in text, (name, text)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_any_text_letter_by_letter_reads_as_at_once(name: str, data: st.DataObject) -> None:
    text = "".join(data.draw(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=8), max_size=8)))
    assert read(name, list(text)) == read(name, [text])


@pytest.mark.parametrize("name", FORMATS)
def test_a_long_turn_is_read_in_one_pass(name: str) -> None:
    """20,000 letters one by one: what begins the search anew at each would take minutes."""
    text = write(name, [call("a" * 20_000)])
    assert read(name, list(text))[1] == ""


def test_the_format_is_what_the_chat_template_was_made_for() -> None:
    assert detect_format("{{ '<tool_call>' }}", json=True) == "hermes"
    assert detect_format("<|python_tag|>", json=False) == "llama"
    assert detect_format("", json=True) == "openai"
    assert detect_format("plain", json=False) == "react"
    with pytest.raises(UnknownNameError, match="did you mean 'hermes'"):
        find_format("herms")
