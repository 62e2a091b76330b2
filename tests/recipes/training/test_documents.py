"""Documents: they survive the tokenizer, mask exactly what is inserted, and end in the right answer."""

from __future__ import annotations

import json
import random
import re

import pytest
from tokenizers import Tokenizer

from plait.recipes.training import facts_tasks, formats, mixture, tokenizer
from plait.recipes.training.facts_tasks import Operand, Problem
from plait.recipes.training.model import NOT_LEARNT

PERU = Problem(
    "larger",
    "people",
    ((Operand("Peru", said="Peru"),), (Operand("Chile", said="Chile"), Operand("Bolivia", said="Bolivia"))),
    {("people", "Peru"): "34352719", ("people", "Chile"): "19658835", ("people", "Bolivia"): "12388571"},
    "Which has more people, Peru or Chile plus Bolivia?",
)


@pytest.fixture(scope="module")
def built() -> Tokenizer:
    return tokenizer.build()


def text_of(document: formats.Document) -> str:
    return "".join(piece.text for piece in document)


def inserted(document: formats.Document) -> list[str]:
    return [piece.text for piece in document[1:] if not piece.learnt]


def test_the_tree_is_tims_json() -> None:
    document = formats.tree(PERU)
    body = text_of(document[1:]).removesuffix("<eos>")
    tree = json.loads(body)
    assert tree["answer"] == "Peru"
    thoughts = [task["thought"] for task in tree["reasoning"]]
    assert thoughts == ["people of Peru", "people of Chile plus Bolivia", "compare"]
    assert tree["reasoning"][1]["subtasks"][2]["tooluse"]["parameters"] == {"expression": "19658835+12388571"}
    assert body == json.dumps(tree, separators=(",", ":"))
    assert inserted(document) == ["34352719", "19658835", "12388571", "32047406", "first"]


def test_queries_and_results_are_labelled() -> None:
    document = formats.queries(PERU)
    assert inserted(document) == [
        "<|begin_search_results|>\npeople of Peru: 34352719\npeople of Chile: 19658835\npeople of Bolivia: 12388571"
        "<|end_search_results|>",
        "<|begin_calculation_result|>first<|end_calculation_result|>",
    ]
    assert text_of(document).startswith(
        "<|hybrid|>Which has more people, Peru or Chile plus Bolivia?<|a|><|begin_search_queries|>people of Peru;\n"
    )
    assert text_of(document).endswith("\\boxed{Peru}<eos>")


def test_calls_are_json_and_observations_repeat_them() -> None:
    document = formats.calls(PERU)
    for piece in document[1:]:
        for calls in re.findall(r"\[.*\]", piece.text):
            assert json.loads(calls)
    assert all(piece.text.startswith("Observation: [") and piece.text.endswith("]\n") for piece in document[2::2])
    assert document[-1].text == (
        'Thought: finish\nFunction Call: [{"name":"Finish","arguments":'
        '{"return_type":"give_answer","final_answer":"Peru"}}]<eos>'
    )


@pytest.mark.parametrize("skill", mixture.SHARES)
def test_documents_survive_the_tokenizer(built: Tokenizer, skill: str) -> None:
    rng = random.Random(5)
    for _ in range(25):
        for piece in mixture.draw(skill, rng):
            assert built.decode(built.encode(piece.text).ids, skip_special_tokens=False) == piece.text


@pytest.mark.parametrize("skill", mixture.SHARES)
def test_the_mask_covers_exactly_what_the_runtime_inserts(built: Tokenizer, skill: str) -> None:
    rng = random.Random(6)
    for _ in range(10):
        document = mixture.draw(skill, rng)
        example = mixture.encode(built, document)
        learnt = [token for token in example.targets if token != NOT_LEARNT]
        assert built.decode(learnt, skip_special_tokens=False) == text_of([p for p in document if p.learnt])
        assert len(example.tokens) == len(example.targets)


@pytest.mark.parametrize("name", formats.FACT_FORMATS)
def test_every_format_ends_in_the_answer(name: formats.FactFormat) -> None:
    rng = random.Random(7)
    for _ in range(60):
        asked = facts_tasks.problem(rng)
        answer = json.dumps(facts_tasks.answer(asked), ensure_ascii=False)[1:-1]
        assert formats.document(name, asked)[-1].text.rpartition(answer)[1] == answer


def test_every_result_is_one_that_the_tools_give() -> None:
    rng = random.Random(8)
    for _ in range(60):
        asked = facts_tasks.problem(rng)
        for line in text_of(formats.serial_queries(asked)).split("\n"):
            query, found, result = line.partition("<|end_search_results|>")[0].partition(": ")
            if found and not query.startswith("<|"):
                assert facts_tasks.lookup(asked, query) == result


def test_scaffolding_is_single_tokens(built: Tokenizer) -> None:
    for text in (*tokenizer.SCAFFOLDING, *tokenizer.CONTROL):
        assert len(built.encode(text).ids) == 1
    assert built.to_str() == tokenizer.build().to_str()
