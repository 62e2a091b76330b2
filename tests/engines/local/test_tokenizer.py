"""Text and tokens: the text of a whole is the text of its parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from plait.engines import Message, Regex
from plait.engines.conversation import Conversation
from plait.engines.local import LocalEngine
from plait.engines.local.chat import ChatTemplate
from plait.engines.local.generation import TextReader
from plait.engines.local.grammar import GrammarCompiler
from plait.engines.local.tokenizer import Tokenizer
from plait.errors import CapabilityError, CheckpointError, InputError


@pytest.fixture(scope="module", params=["byte level", "sentencepiece"])
def tokenizer(request: pytest.FixtureRequest, checkpoint: Path, llama_checkpoint: Path) -> Tokenizer:
    if request.param == "byte level":
        return Tokenizer.load(checkpoint, vocabulary=352, eos=(0,))
    return Tokenizer.load(llama_checkpoint, vocabulary=368, eos=(2,))


texts = st.text(st.sampled_from('the cat sat é🎉\n{}":,<|im_end|>x '), max_size=20)


@given(texts, texts)
def test_the_text_of_a_context_is_the_sum_of_its_parts(tokenizer: Tokenizer, first: str, second: str) -> None:
    assume(first or not second.startswith(" "))  # a blank in front of the first text may be the tokenizer's
    start, more = tokenizer.encode(first), tokenizer.encode_more(second)
    assert tokenizer.text(start) == first
    assert tokenizer.text([*start, *more]) == first + second


@given(texts)
def test_text_read_token_by_token_is_the_text(tokenizer: Tokenizer, text: str) -> None:
    assume(not text.startswith(" "))  # `text` takes a blank in front of a whole context for the tokenizer's
    tokens = tokenizer.encode_more(text)
    for cut in range(len(tokens) + 1):
        reader = TextReader(tokenizer, tokens[:cut])
        before = tokenizer.text([*tokenizer.encode(""), *tokens[:cut]])
        read = "".join(map(reader.read, tokens[cut:]))
        assert (before + read).removeprefix(" ") == text.removeprefix(" ")


def test_bytes_that_are_no_characters_have_tokens_too(tokenizer: Tokenizer) -> None:
    for data in ("é".encode()[1:], b"at\xf0\x9f", b"cat"):
        assert tokenizer.data(tokenizer.encode_bytes(data)) == data


def test_half_a_surrogate_pair_is_refused_by_its_place(tokenizer: Tokenizer) -> None:
    for encode in (tokenizer.encode, tokenizer.encode_more, tokenizer.encode_rendered):
        with pytest.raises(InputError, match=r"character 2 of a text is half a surrogate pair, U\+DCFF"):
            encode("a\n\udcff")


def test_added_tokens_are_text_and_special_ones_have_names(checkpoint: Path) -> None:
    tokenizer = Tokenizer.load(checkpoint, vocabulary=352, eos=())
    tokens = tokenizer.encode('{"thought":"cat","result":"x<|im_end|>')
    assert [tokenizer.text([token]) for token in tokens] == ['{"thought":"', "cat", '","result":"', "x", "<|im_end|>"]


def test_a_raw_prompt_begins_with_bos_where_the_tokenizer_says_so(checkpoint: Path, llama_checkpoint: Path) -> None:
    assert Tokenizer.load(llama_checkpoint, vocabulary=368, eos=()).encode("cat")[0] == 1
    assert Tokenizer.load(checkpoint, vocabulary=352, eos=()).bos == -1


def test_end_of_sequence_tokens_come_from_all_files(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|im_end|>"}}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 1]}))
    assert Tokenizer.load(tmp_path, vocabulary=352, eos=(5,)).eos == {0, 1, 2, 5}


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="its model only 97"):
        Tokenizer.load(checkpoint, vocabulary=97, eos=())
    with pytest.raises(CheckpointError, match="outside its vocabulary"):
        Tokenizer.load(checkpoint, vocabulary=352, eos=(400,))
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        Tokenizer.load(tmp_path, vocabulary=352, eos=())
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="can't be read"):
        Tokenizer.load(tmp_path, vocabulary=352, eos=())


# ---- chat templates

TURN = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def template(source: str = TURN) -> ChatTemplate:
    return ChatTemplate(source, {"eos_token": "</s>"}, "here")


def test_following_messages_close_the_turn_whatever_was_said() -> None:
    asked = (Message("user", "hi"),)
    opened = template().open(asked)
    assert opened == "[user]hi</s>[assistant]"
    added = template().follow(Conversation(asked, len(opened)), "  said, untrimmed ", [Message("tool", "42")])
    assert added == "</s>[tool]42</s>[assistant]"


def test_a_template_can_refuse_and_cannot_reach_out() -> None:
    with pytest.raises(InputError, match="must alternate"):
        template("{{ raise_exception('roles must alternate') }}").open([])
    with pytest.raises(InputError, match="refuses these messages"):
        template("{{ messages.__class__.__mro__ }}").open([])
    with pytest.raises(CheckpointError, match="can't be read"):
        template("{% for %}")
    with pytest.raises(CapabilityError, match="has no chat template"):
        template("").open([])


def test_a_template_that_drops_the_last_turn_is_refused() -> None:
    only_users = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(CapabilityError, match="leaves the assistant's turn out"):
        template(only_users).follow(Conversation((), 0), "x", [Message("user", "y")])


def test_templates_are_read_from_either_file(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"name": "default", "template": "A"}], "bos_token": {"content": "<s>"}})
    )
    assert ChatTemplate.load(tmp_path).open([]) == "A"
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}B")
    assert ChatTemplate.load(tmp_path).open([]) == "<s>B"


def test_a_tag_that_is_not_special_can_be_written_under_a_grammar() -> None:
    """llguidance takes every name like <|this|> for special; ours are what the tokenizer says."""
    tokenizer = Tokenizer.load(LocalEngine.EMBEDDED, vocabulary=752, eos=(1,))
    matcher = GrammarCompiler(tokenizer).matcher(Regex(r"<\|begin_search_queries\|>a+"))
    (tag,) = tokenizer.encode("<|begin_search_queries|>")
    assert matcher.mask(tokenizer.size)[tag]
    assert not matcher.mask(tokenizer.size)[tokenizer.encode("<|tree|>")[0]]


def test_a_model_with_tags_needs_no_end_of_sequence() -> None:
    encoder = Tokenizer.load(LocalEngine.EMBEDDED, vocabulary=752, eos=()).encoder
    for vocabulary in (742, 752):
        tokenizer = Tokenizer(encoder, vocabulary=vocabulary, eos=frozenset(), source="here")
        matcher = GrammarCompiler(tokenizer).matcher(Regex("a?"))
        assert matcher.complete
        assert matcher.mask(tokenizer.size).tolist().count(True) == 1


@given(texts, st.integers(0, 30))
def test_a_prefix_of_so_many_tokens_is_the_text_that_they_stand_for(
    tokenizer: Tokenizer, text: str, tokens: int
) -> None:
    ids = tokenizer.encode_more(text)
    kept = text[: tokenizer.prefix(text, tokens)]
    assert tokenizer.data(ids[:tokens]).startswith(kept.encode())
    assert tokens < len(ids) or kept == text


@pytest.mark.anyio
async def test_an_engine_tells_the_template_that_its_model_was_trained_with(checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "qwen"))
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ '<tool_call>' }}"
    (folder / "chat_template.jinja").write_text(template)
    async with LocalEngine.open(folder, device="cpu") as engine:
        assert engine.chat_template == template
        assert engine.prefix("the cat sat", 10_000) == len("the cat sat")
