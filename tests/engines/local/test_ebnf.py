"""EBNF grammars: the language is the one that the rules say, whatever words a lexer would rather take."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.engines import Ebnf, Sampling
from plait.engines.local import LocalEngine
from plait.engines.local.ebnf import ebnf_to_lark
from plait.engines.local.grammar import GrammarCompiler
from plait.engines.local.tokenizer import Tokenizer
from plait.errors import GrammarError


@pytest.fixture(scope="module")
def compiler(checkpoint: Path) -> GrammarCompiler:
    return GrammarCompiler(Tokenizer.load(checkpoint, vocabulary=352, eos=[0]))


def accepts(compiler: GrammarCompiler, grammar: str, text: str) -> bool:
    matcher = compiler.matcher(Ebnf(grammar))
    try:
        matcher.force(text)
    except GrammarError:
        return False
    return matcher.complete


# ---- random grammars, each beside a regular expression of the same language

Pair = tuple[str, str]
leaves: st.SearchStrategy[Pair] = st.sampled_from(
    [
        ('"a"', "a"),
        ("'ab'", "ab"),
        ('"b" "a"', "ba"),
        ('"é\\n"', "é\n"),
        ('"\\x61\\u00e9"', "aé"),
        ("[a-b]", "[ab]"),
        ("[^ab]", "[^ab]"),
        ("[\\n\\]/é]", "[\n\\]/é]"),
        (".", "."),
        ('""', ""),
    ]
)


def longer(parts: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    pairs = st.tuples(parts, parts)
    times = st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{ 0 , 1 }"])
    return st.one_of(
        pairs.map(lambda two: (f"{two[0][0]} {two[1][0]}", f"{two[0][1]}{two[1][1]}")),
        pairs.map(lambda two: (f"({two[0][0]} | # or\n {two[1][0]})", f"(?:{two[0][1]}|{two[1][1]})")),
        st.tuples(parts, times).map(
            lambda both: (f"( {both[0][0]} ){both[1]}", f"(?:{both[0][1]}){both[1].replace(' ', '')}")
        ),
    )


expressions = st.recursive(leaves, longer, max_leaves=5)


@settings(max_examples=60)
@given(first=expressions, second=expressions, texts=st.lists(st.text("abé\n/]", max_size=6), min_size=3, max_size=6))
def test_a_grammar_accepts_what_the_same_regular_expression_does(
    compiler: GrammarCompiler, first: Pair, second: Pair, texts: list[str]
) -> None:
    grammar = f"root ::= {first[0]} other-part /* and */\nother-part ::=\n  {second[0]}\n"
    pattern = f"(?:{first[1]})(?:{second[1]})"
    for text in texts:
        assert accepts(compiler, grammar, text) == (re.fullmatch(pattern, text) is not None), (grammar, text)


@pytest.mark.parametrize(
    ("text", "fits"), [("hens", True), ("s", False), ("sss", True), ("hen", False), ("he s", False)]
)
def test_a_word_may_end_with_what_follows_it(compiler: GrammarCompiler, text: str, fits: bool) -> None:
    """A lexer that takes the longest word would never leave an s."""
    assert accepts(compiler, 'root ::= word "s"\nword ::= [a-z]+', text) == fits


def test_rules_may_be_recursive_and_the_first_one_is_the_root(compiler: GrammarCompiler) -> None:
    grammar = """
    # sums in brackets
    sum ::= term (("+" | "-") term)*
    term ::= [0-9]+ | "(" sum ")"
    """
    for text, fits in (("1", True), ("(1+(23-4))+5", True), ("(1", False), ("", False), ("1+", False)):
        assert accepts(compiler, grammar, text) == fits


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("", "has no rule; write one like"),
        ("# nothing", "has no rule"),
        ('root ::= "a" other', "line 1, at 'other': there is no rule 'other'; known: root"),
        ('root ::= "a"\nroot ::= "b"', "rule 'root' is defined twice"),
        ('root ::= ("a"', r"line 1, at '\(': it is not closed"),
        ('root ::= "a")', r"line 1, at '\)': no bracket is open"),
        ('root ::= "a" |\n * "b"', r"line 2, at '\*': there is nothing to repeat before it"),
        ('root ::= "a', "line 1: can't read '\"a'"),
        ("root ::= []", r"at '\[\]': it holds no character"),
        ('root ::= "\\q"', r"unknown escape '\\q'"),
        ('root ::= [a-z] - "e"', "can't read '- \"e\"'; known are .* write a Lark grammar"),
        ('root = "a";', "can't read '= \"a\";'"),
        ('"a" root ::= "b"', "a rule begins with its name and ::="),
    ],
)
def test_what_cannot_be_translated_is_named_with_its_line(grammar: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        ebnf_to_lark(grammar)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_model_writes_json_by_an_ebnf_grammar(checkpoint: Path, open_local) -> None:  # type: ignore[no-untyped-def]
    grammar = Ebnf(
        r"""
        root ::= object
        object ::= "{" pair ("," pair){0,2} "}"
        pair ::= string ":" (string | number | object)
        string ::= "\"" [^"\\\n\r\t\x00-\x1f]{1,4} "\""
        number ::= [1-9] [0-9]?
        """
    )
    engine: LocalEngine = open_local(checkpoint)
    async with engine:
        context = await engine.start("the cat")
        for seed in range(3):
            sampling = Sampling(1.0, seed=seed, logit_bias={engine.tokenizer.encode_more("{")[0]: -6.0})
            out = await context.generate(max_tokens=400, grammar=grammar, sampling=sampling)
            if out.finish == "grammar":
                assert isinstance(json.loads(out.text), dict)
            assert out.grammar is not None
            assert out.grammar.complete == (out.finish == "grammar")
        first = await context.generate(grammar=grammar, stop=[":"])
        assert first.grammar is not None
        forced = first.grammar.force('{"a":1')
        rest = await (await first.context.extend('{"a":1')).generate(grammar=forced, max_tokens=400)
        assert rest.text.startswith(("}", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", ","))
        with pytest.raises(GrammarError, match="does not allow"):
            first.grammar.force("]")
