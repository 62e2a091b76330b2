"""The built-in tables hold together: see tools/data/README.md for what they say."""

from __future__ import annotations

import csv
from collections import Counter

import pytest

from plait.tools.facts import BUILT_IN, FactTable
from plait.tools.wording import name_key

COUNTRIES, CITIES = (list(csv.DictReader(path.open(encoding="utf-8", newline=""))) for path in BUILT_IN)
BY_NAME = {row["country"]: row for row in COUNTRIES}
CITY_NAMES = {row["city"] for row in CITIES}
CONTINENTS = {"Africa": 54, "Asia": 49, "Europe": 45, "North America": 23, "Oceania": 14, "South America": 12}


def neighbours(row: dict[str, str]) -> list[str]:
    return [] if row["neighbours"] == "none" else row["neighbours"].split(", ")


@pytest.fixture(scope="module")
def table() -> FactTable:
    return FactTable.load()


def test_there_are_197_countries_each_once() -> None:
    assert len(BY_NAME) == len(COUNTRIES) == 197
    assert Counter(row["continent"] for row in COUNTRIES) == CONTINENTS


def test_every_cell_is_filled_and_clean() -> None:
    for row in COUNTRIES + CITIES:
        for column, cell in row.items():
            assert column == "aliases" or cell, row
            assert cell == " ".join(cell.split()), row


def test_neighbours_are_countries_and_mutual() -> None:
    for row in COUNTRIES:
        names = neighbours(row)
        assert len(set(names)) == len(names)
        for name in names:
            assert row["country"] in neighbours(BY_NAME[name]), f"{row['country']} and {name}"


def test_neighbours_share_a_continent_or_a_known_bridge() -> None:
    bridges = {"Russia", "Turkey", "Egypt", "Spain", "Georgia", "Azerbaijan", "Colombia", "Indonesia", "Kazakhstan"}
    for row in COUNTRIES:
        for name in neighbours(row):
            assert BY_NAME[name]["continent"] == row["continent"] or {name, row["country"]} & bridges


def test_figures_are_plausible_and_dated() -> None:
    for row in COUNTRIES:
        area, people = float(row["area"]), int(row["population"])
        assert row["area"] == (str(int(area)) if area >= 10 else row["area"])
        assert 1.5 < people / area < 25_000, row["country"]
        assert (row["area_year"], row["population_year"]) == ("2021", "2023")
    assert 8.0e9 < sum(int(row["population"]) for row in COUNTRIES) < 8.1e9
    assert 1.30e8 < sum(float(row["area"]) for row in COUNTRIES) < 1.36e8
    for row in CITIES:
        assert 2005 <= int(row["population_year"]) <= 2024
        assert row["extent"] in ("city", "urban area")


def test_a_city_has_fewer_people_than_its_country() -> None:
    for row in CITIES:
        assert 100 < int(row["population"]) < int(BY_NAME[row["country"]]["population"]), row["city"]


def test_every_capital_and_largest_city_can_be_looked_up(table: FactTable) -> None:
    for row in COUNTRIES:
        for city in (row["capital"], row["largest_city"]):
            assert city in CITY_NAMES | set(BY_NAME)
            assert table.find(f"people of {city}") is not None
    homes = {row["city"]: row["country"] for row in CITIES}
    for row in COUNTRIES:
        assert homes.get(row["capital"], row["country"]) == row["country"]


def test_no_name_means_two_things() -> None:
    named = Counter(
        key
        for row in COUNTRIES + CITIES
        for key in {name_key(name) for name in (row.get("city") or row["country"], *row["aliases"].split("|"))} - {""}
    )
    assert [name for name, count in named.items() if count > 1] == ["congo"]


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("people of Peru", "34352719"),
        ("population of Chile", "19629590"),
        ("people of Bolivia", "12388571"),
        ("area of Peru", "1285216"),
        ("capital of Bolivia", "Sucre"),
        ("people of Lima", "10092000"),
        ("neighbours of Peru", "Chile, Bolivia, Brazil, Colombia, Ecuador"),
        ("neighbours of Japan", "none"),
        ("area of Vatican City", "0.49"),
        ("population of Singapore", "6014723"),
        ("capital of the Philippines", "Manila"),
        ("capital of Côte d'Ivoire", "Yamoussoukro"),
        ("currency of Turkiye", "Turkish lira"),
        ("population of the UK", "67736802"),
        ("continent of Burma", "Asia"),
        ("languages of Switzerland", "German, French, Italian, Romansh"),
        ("biggest city of Brazil", "São Paulo"),
        ("country of Casablanca", "Morocco"),
        ("people of St. John's", "22219"),
        ("What is St. John's population?", "22219"),
        ("Which countries border Laos?", "Cambodia, China, Myanmar, Thailand, Vietnam"),
        ("What currency does Thailand use?", "Thai baht"),
        ("On which continent is Kenya?", "Africa"),
    ],
)
def test_everyday_queries_are_answered(table: FactTable, query: str, value: str) -> None:
    found = table.find(query)
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    "query",
    [
        "people of Korea",
        "area of Congo",
        "people of Wakanda",
        "dragons of Peru",
        "president of France",
        "people of Trinidad",
        "people of the capital of Peru",
        "people of Papua",
        "people of Guinea Bissau Equatorial",
        "area of Lima",
    ],
)
def test_what_the_tables_do_not_know_is_unknown(table: FactTable, query: str) -> None:
    assert table.find(query) is None
