"""Secrets: in no event, no record and no error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import plait
from plait.engines.scripted import ScriptedEngine
from plait.errors import InputError, JournalError, NodeError
from plait.orchestrator import Builder, Scope
from plait.orchestrator.redaction import Secrets

pytestmark = pytest.mark.anyio
KEY = 'sk-"0123\\456'
PASSWORD = "open sesame"


@plait.tool(idempotent=True, secret=("password",))
async def enter(user: str, password: str) -> str:
    """Enters, and says too much."""
    if user == "nobody":
        raise ValueError(f"{password} is wrong")
    return f"{user} entered with {password} and {KEY}"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", KEY)


def bytes_of(folder: Path) -> str:
    return "".join(path.read_bytes().decode("utf-8", "replace") for path in folder.iterdir())


@pytest.mark.usefixtures("key")
async def test_secrets_reach_neither_events_nor_the_journal(tmp_path: Path) -> None:
    async def drive(scope: Scope, key: str) -> str:
        context = await scope.start(f"The key is {key}. ")
        written = await scope.generate(context)
        scope.emit("found", {"key": [key]})
        return written.text + await scope.call(enter, {"user": "Ada", "password": PASSWORD})

    @plait.graph
    def build(g: Builder, key: str) -> str:
        return g.drive(drive, key=key, name="d")

    events: list[Any] = []
    with plait.Journal(tmp_path / "j.db") as journal:
        engine = ScriptedEngine([KEY])
        answer = await build.run(KEY, engine=engine, journal=journal, listeners=[events.append])
        run = journal.runs()[0].run
        shown = bytes_of(tmp_path) + "".join(map(repr, events))
        assert answer == f"{KEY}Ada entered with {PASSWORD} and {KEY}"
        for secret in (KEY, repr(KEY)[1:-1], KEY.replace("\\", "\\\\").replace('"', '\\"'), PASSWORD):
            assert secret not in shown
        assert "[secret:TEST_API_KEY]" in shown
        assert "[secret:enter.password]" in shown
        again = await build.run(engine=None, journal=journal.replay(run))
        assert again == f"{KEY}Ada entered with [secret:enter.password] and {KEY}"


@pytest.mark.usefixtures("key")
async def test_secrets_are_in_no_error(tmp_path: Path) -> None:
    @plait.graph
    def build(g: Builder, user: str) -> str:
        return g.call(enter, user=user, password=PASSWORD)

    with pytest.raises(NodeError, match=r"ValueError: \[secret:enter\.password\] is wrong") as caught:
        await build.run("nobody", engine=None, journal=tmp_path / "j.db")
    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in str(error)
        error = error.__cause__
    assert PASSWORD not in bytes_of(tmp_path)


async def test_an_input_that_a_tool_keeps_secret_is_not_recorded(tmp_path: Path) -> None:
    @plait.graph
    def inner(g: Builder, word: str) -> str:
        return g.call(enter, user="Ada", password=word)

    @plait.graph
    def build(g: Builder, word: str) -> str:
        said = g.think("Say {word} aloud.", word=word)
        return g.function(lambda said, entered: said + entered, said=said, entered=g.subgraph(inner, word))

    events: list[Any] = []
    with plait.Journal(tmp_path / "j.db") as journal:
        engine = ScriptedEngine([f"{PASSWORD}!"])
        answer = await build.run(PASSWORD, engine=engine, journal=journal, listeners=[events.append])
        assert answer.count(PASSWORD) == 2
        assert PASSWORD not in bytes_of(tmp_path) + "".join(map(repr, events))
        past = journal.replay(journal.runs()[0].run)
        with pytest.raises(JournalError, match=r"input 'word' of run .* is secret"):
            await build.run(engine=None, journal=past)
        assert await build.run(PASSWORD, engine=None, journal=past) == answer


def test_only_variables_named_as_secrets_are_hidden() -> None:
    secrets = Secrets(
        {
            "OPENAI_API_KEY": "sk-12345678",
            "HOME": "/home/somebody",
            "TOKENIZERS_PARALLELISM": "true",
            "DB_PASSWORD": "pw",
        }
    )
    assert (
        secrets.hide("sk-12345678 in /home/somebody is true, pw")
        == "[secret:OPENAI_API_KEY] in /home/somebody is true, pw"
    )
    assert secrets.restore('"[secret:OPENAI_API_KEY]"') == '"sk-12345678"'


def test_a_secret_argument_must_be_one() -> None:
    with pytest.raises(InputError, match="secret argument 'token' is none of its own"):

        @plait.tool(secret=("token",))
        async def enter(user: str) -> str:
            return user
