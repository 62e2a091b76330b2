"""Settings of recipes: read from texts, refused by name."""

from __future__ import annotations

import pytest

from plait.errors import InputError
from plait.recipes import RECIPES
from plait.recipes.settings import read_settings, settings_of


def test_texts_become_typed_values() -> None:
    read = read_settings("multiverse", RECIPES["multiverse"].make, ["held=40", "returns=trace"])
    assert read == {"held": 40, "returns": "trace"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("held", "write NAME=VALUE"),
        ("heldd=1", "did you mean 'held'"),
        ("tools=lookup", "has no setting 'tools'"),
        ("held=many", "held='many': it is a whole number"),
        ("held=", "held='': it is a whole number"),
        ("returns=all", "one of answer, trace"),
    ],
)
def test_what_can_not_be_read_is_refused_by_name(given: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_settings("multiverse", RECIPES["multiverse"].make, [given])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_its_settings(name: str) -> None:
    recipe = RECIPES[name]
    given = [f"{setting.name}={setting.default}" for setting in settings_of(recipe.make).values()]
    assert recipe.make(None, **read_settings(name, recipe.make, given)).name == name
