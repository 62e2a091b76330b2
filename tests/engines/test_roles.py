"""Several engines as one: contexts go to who plays their role, and what all can do is what one can count on."""

from __future__ import annotations

from pathlib import Path

import pytest

import plait
from plait.engines import Capabilities, Engine, Member, Roles, Teamwork
from plait.engines.roles import read_roles
from plait.engines.scripted import ALL, ScriptedEngine
from plait.errors import ContextError, DataError, InputError, UnknownNameError


@pytest.mark.anyio
async def test_a_context_is_of_the_engine_that_its_role_names() -> None:
    small, large = ScriptedEngine(["s", "s"], name="small"), ScriptedEngine(["l"], name="large")
    async with Roles({"small": small, "large": large}) as engine:
        texts = [(await (await engine.start("?", adapter=role)).generate()).text for role in ("", "large", "small")]
        assert texts == ["s", "l", "s"]
        with pytest.raises(UnknownNameError, match="no engine plays 'judge'; roles: small, large"):
            await engine.start("?", adapter="judge")
    assert small.closed
    assert large.closed


def test_what_all_can_do_is_what_one_can_count_on() -> None:
    narrow = Capabilities(grammars=frozenset({"Regex"}), window=100, seeds=False)
    wide = ALL
    engine = Roles({"a": ScriptedEngine([], capabilities=narrow), "*": ScriptedEngine([], capabilities=wide)})
    assert engine.capabilities.grammars == {"Regex"}
    assert (engine.capabilities.window, engine.capabilities.seeds, engine.capabilities.streaming) == (100, False, True)
    assert engine.capabilities.team == frozenset()


@pytest.mark.anyio
async def test_a_team_plays_on_one_engine() -> None:
    one, other = ScriptedEngine(["a b"] * 2), ScriptedEngine([])
    engine = Roles({"one": one, "other": other})
    work = Teamwork(layout="combined")
    here, there = await engine.start("?"), await engine.start("?", adapter="other")
    said = await engine.team([Member(context=here, name="A"), Member(context=here, name="B")], work)
    assert len(said) == 2
    with pytest.raises(ContextError, match="play on 2 engines"):
        await engine.team([Member(context=here), Member(context=there)], work)


def test_an_engine_in_two_roles_is_opened_once(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text("[]")
    (tmp_path / "table.json").write_text(f'{{"a": "scripted:{script}", "*": "scripted:{script}"}}')
    engine: Engine = plait.open_engine(f"roles:{tmp_path / 'table.json'}")
    assert isinstance(engine, Roles)
    assert engine.find("a") is engine.find("anybody")


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}'])
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(DataError, match="table of engines"):
        read_roles(tmp_path / "table.json")


def test_a_table_names_one_engine_at_least() -> None:
    with pytest.raises(InputError, match="names no engine"):
        Roles({})
