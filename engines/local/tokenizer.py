"""Tokens and text: a checkpoint's tokenizer.json, as the runtime and the grammars read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper
from tokenizers import Tokenizer as Encoder

from ...errors import CheckpointError, InputError


class Tokenizer:
    """Encodes text, and knows the bytes of each token.

    Text is bytes: every token stands for some, those of special tokens being their names. So the text of a context is
    the sum of its parts, wherever it was cut.
    """

    def __init__(self, encoder: Encoder, *, vocabulary: int, eos: frozenset[int], source: str) -> None:
        """`vocabulary` is the model's; `source` names the checkpoint in messages."""
        self.encoder = encoder
        self.eos = eos
        self._vocabulary = vocabulary
        self._more, self._prefixes = _without_prefix(encoder)
        self._known: dict[int, bytes] = {}
        largest = max(encoder.get_vocab(with_added_tokens=True).values(), default=-1)
        self.size = largest + 1
        if largest >= vocabulary:
            raise CheckpointError(
                f"tokenizer of {source} has tokens up to {largest}, its model only {vocabulary} (to {vocabulary - 1}). "
                "Use the tokenizer that the model was trained with"
            )
        if wrong := [token for token in eos if token >= vocabulary]:
            raise CheckpointError(f"end-of-sequence token {wrong[0]} of {source} is outside its vocabulary")

    @classmethod
    def load(cls, directory: Path, *, vocabulary: int, eos: Sequence[int]) -> Tokenizer:
        """Read tokenizer.json; `eos` are config.json's end-of-sequence tokens. Raises CheckpointError."""
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(f"checkpoint at {directory} has no tokenizer.json: fetch or convert it")
        try:
            encoder = Encoder.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"{path} can't be read: {error}. Fetch the checkpoint again") from error
        found = {*eos, *_generation_eos(directory), *_named_eos(directory, encoder)}
        return cls(encoder, vocabulary=vocabulary, eos=frozenset(found), source=str(directory))

    def encode(self, text: str) -> list[int]:
        """Tokens of a raw text at the start of a context; begins with bos where the tokenizer is made so.

        Raises InputError for half a surrogate pair, which is no character, as all that encode a text."""
        return list(self.encoder.encode(_checked(text)).ids)

    def encode_rendered(self, text: str) -> list[int]:
        """Tokens of a rendered conversation, which brings its own bos."""
        return list(self.encoder.encode(_checked(text), add_special_tokens=False).ids)

    def encode_more(self, text: str) -> list[int]:
        """Tokens of a text that follows others, tokenised on its own, without a blank put in front of it."""
        return list(self._more.encode(_checked(text), add_special_tokens=False).ids)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Tokens of bytes that follow others, which need not be whole characters."""
        try:
            tokens = self.encode_more(data.decode())
        except UnicodeDecodeError:
            tokens = []
        return tokens if self.data(tokens) == data else list(self.trie.tokenize_bytes(data))

    def prefix(self, text: str, tokens: int) -> int:
        """How many characters of a text its first tokens stand for."""
        return len(_whole(self.data(self.encode_more(text)[:tokens])).decode("utf-8", "replace"))

    def data(self, tokens: Sequence[int]) -> bytes:
        """The bytes that tokens stand for."""
        known = self._known
        for token in tokens:
            if token not in known:
                known[token] = bytes(self.trie.decode_bytes([token]))
        return b"".join([known[token] for token in tokens])

    def text(self, tokens: Sequence[int]) -> str:
        """Text of a whole context: without a bos in front, nor the blank that the tokenizer put there; characters that
        aren't whole at the end are left out."""
        start = 1 if tokens and tokens[0] == self.bos else 0
        data = _whole(self.data(tokens[start:]))
        text = data.decode("utf-8", "replace")
        return text[1:] if self._prefixes and text.startswith(" ") else text

    @cached_property
    def bos(self) -> int:
        """The token that `encode` puts first; −1 if there is none."""
        first = self.encoder.encode("a").ids[:1]
        return first[0] if first != self.encoder.encode("a", add_special_tokens=False).ids[:1] else -1

    @cached_property
    def trie(self) -> LLTokenizer:
        """The tokenizer as llguidance reads it."""
        encoder, eos = self.encoder, sorted(self.eos)
        if not eos:  # llguidance needs one; this one is beyond the vocabulary, so it is never sampled
            encoder = Encoder.from_str(encoder.to_str())
            encoder.add_special_tokens(["<|no end of sequence|>"])
            eos = [self.size]
        size = max(self._vocabulary, self.size + 1)
        trie = LLTokenizer(encoder.to_str(), n_vocab=size, eos_token=eos)
        special = {token for token, added in encoder.get_added_tokens_decoder().items() if added.special}
        if all(trie.is_special_token(token) == (token in special) for token in encoder.get_added_tokens_decoder()):
            return trie
        # llguidance takes every name like <|this|> for special, which grammars of text could then never produce
        plain = _PlainTokenizer(self, trie, eos[0], sorted(special))
        return LLTokenizer(TokenizerWrapper(plain), n_vocab=size, eos_token=eos)


class _PlainTokenizer:
    """A tokenizer as llguidance's wrapper wants it: each token's bytes, and which tokens are special."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, trie: LLTokenizer, eos: int, special: list[int]) -> None:
        self.eos_token_id = eos
        self.special_token_ids = special
        self.tokens = [bytes(trie.decode_bytes([token])) for token in range(max(tokenizer.size, eos + 1))]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode_more(text.decode("utf-8", "replace"))


def _whole(data: bytes) -> bytes:
    """Without the first bytes of a character that isn't whole, at the end."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return data[:-back] if back < length else data
    return data


def _without_prefix(encoder: Encoder) -> tuple[Encoder, bool]:
    """The encoder without a blank put in front of each text (as sentencepiece does), and whether it puts one."""
    spec: dict[str, Any] = json.loads(encoder.to_str())
    before = json.dumps(spec)
    spec["normalizer"] = _strip_normalizer(spec.get("normalizer"))
    for part in _parts(spec.get("pre_tokenizer"), "pretokenizers"):
        if part.get("type") == "Metaspace":
            part["prepend_scheme"] = "never"
        if part.get("type") == "ByteLevel":
            part["add_prefix_space"] = False
    if json.dumps(spec) == before:
        return encoder, False
    return Encoder.from_str(json.dumps(spec)), True


def _strip_normalizer(normalizer: dict[str, Any] | None) -> dict[str, Any] | None:
    if normalizer is None or normalizer.get("type") == "Prepend":
        return None
    if normalizer.get("type") == "Sequence":
        kept = [part for part in normalizer["normalizers"] if part.get("type") != "Prepend"]
        return {**normalizer, "normalizers": kept}
    return normalizer


def _parts(component: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if component is None:
        return []
    return list(component[inner]) if component.get("type") == "Sequence" else [component]


def _checked(text: str) -> str:
    """The text, if all of it is characters. Raises InputError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"character {error.start} of a text is half a surrogate pair, U+{ord(text[error.start]):04X}, which stands "
            "for nothing; read the text as what it was encoded in, or with errors='replace'"
        ) from error
    return text


def read_json(path: Path) -> dict[str, Any]:
    """An optional JSON object beside the weights; empty if there is no such file. Raises CheckpointError."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}. Fetch the checkpoint again") from error
    return found if isinstance(found, dict) else {}


def _generation_eos(directory: Path) -> list[int]:
    eos = read_json(directory / "generation_config.json").get("eos_token_id")
    return eos if isinstance(eos, list) else [eos] if isinstance(eos, int) else []


def _named_eos(directory: Path, encoder: Encoder) -> list[int]:
    named = read_json(directory / "tokenizer_config.json").get("eos_token")
    name = named.get("content") if isinstance(named, dict) else named
    token = encoder.token_to_id(name) if isinstance(name, str) else None
    return [] if token is None else [token]
