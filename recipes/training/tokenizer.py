"""The tokenizer: BPE on template words, with digits, blanks, connectors and scaffolding as tokens of their own.

A name or attribute then has the same tokens wherever it stands, so that copying is a matter of attention alone.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from . import countdown, formats, names, phrases

VOCABULARY = 640
PADDING = "<pad>"

_CONNECTING = (
    " of",
    " plus",
    " or",
    " and",
    " does",
    " do",
    " has",
    " have",
    " from",
    " is",
    " than",
    " in",
    ",",
    " by",
)
CONNECTORS = (
    *(word + follow for word in _CONNECTING for follow in (" ", " the ")),
    " in total?", " together?", " have?", " minus that of ", " minus that of the ", " than that of ", " and that of ",
    " exceed that of ", " to leave ", " to leave the ", " number of ", " live in ", " live in the ", " are there in ",
    " have than ", "How many ", "How many more ", "Which has ", "What is the ", "Does ", "Does the ", "Give the ",
    "Which is ", " than in ", " than in the ", " or in ", " or in the ", ", in ", ", in the ", ", and ", ", and the ",
    ": ", "'s ", ";\n", "\n", "; ",
)  # fmt: skip
SCAFFOLDING = (
    *formats.QUERIES, *formats.RESULTS, *formats.CALCULATION, *formats.CALCULATED, formats.BOXED,
    *countdown.SPAWN, *countdown.JOIN, *countdown.RETURN,
    formats.TREE_OPEN, formats.THOUGHT, formats.LOOKUP, formats.CALCULATE, formats.TOOL_RESULT, formats.CONCLUSION,
    formats.SUBTASKS, formats.NEXT_THOUGHT, formats.NODE_CONCLUSION, formats.TREE_ANSWER, formats.TREE_CLOSE,
    formats.LOOK_UP_TURN, formats.CALCULATE_TURN, formats.FINISH_TURN, formats.LOOKUP_CALL, formats.CALCULATE_CALL,
    formats.FINISH_CALL, formats.NEXT_LOOKUP_CALL, formats.CALLS_END, formats.OBSERVATION, formats.OBSERVED,
    formats.NEXT_OBSERVED, formats.OBSERVATION_END,
)  # fmt: skip
CONTROL = (PADDING, formats.END, *formats.PROMPT_TAGS, formats.ASSISTANT)


def build() -> Tokenizer:
    """Train the tokenizer; the result is the same every time."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*SCAFFOLDING, *CONNECTORS)])
    return tokenizer


def padded_size(tokenizer: Tokenizer) -> int:
    """Rows of the embedding: the vocabulary, rounded up to a multiple of 16."""
    return -(-tokenizer.get_vocab_size() // 16) * 16


def _corpus() -> Iterator[str]:
    for _ in range(120):
        yield from names.NUMBER_ATTRIBUTES + names.TEXT_ATTRIBUTES + names.RELATIONS
    for _ in range(40):
        yield from _template_words()
    for _ in range(200):
        yield from (
            "add",
            "compare",
            "subtract",
            "none",
            "unknown",
            "equal",
            "first",
            "second",
            "max",
            "min",
            "sub",
            "the",
        )


def _template_words() -> Iterator[str]:
    groups = [phrases.GENERAL, *phrases.ABOUT_ONE_ATTRIBUTE.values()]
    for wording in [text for group in groups for texts in group.values() for text in texts] + list(phrases.POSSESSIVE):
        for word in wording.replace("{", " {").split():
            if "{" not in word:
                yield word.strip(string.punctuation)
