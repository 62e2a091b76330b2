from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import DataError, InputError
from plait.tools import facts
from plait.tools.facts import Fact, FactTable

COUNTRIES = """country,aliases,capital,area,area_year,population,population_year,neighbours,largest_city,founding_year
Peru,,Lima,1285216,2020,34352719,2023,"Chile, Bolivia",Lima,1821
Bolivia,Plurinational State of Bolivia,Sucre,1098581,2020,12388571,2023,Peru,,1825
United States,USA|US|America,"Washington, D.C.",9833517,2020,339996563,2023,,New York,1776
Côte d'Ivoire,Ivory Coast,Yamoussoukro,322463,2020,28873034,2023,,Abidjan,1960
Republic of the Congo,Congo|Congo-Brazzaville,Brazzaville,342000,2020,6106869,2023,,,1960
Democratic Republic of the Congo,Congo|DR Congo|Zaire,Kinshasa,2344858,2020,102262808,2023,,,1960
The Gambia,,Banjul,11295,2020,2773168,2023,,,1965
Sudan,,Khartoum,1861484,2020,48109006,2023,,,1956
South Sudan,,Juba,644329,2020,11088796,2023,,,2011
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("facts") / "countries.csv"
    path.write_text(COUNTRIES)
    return path


@pytest.fixture(scope="module")
def table(path: Path) -> FactTable:
    return FactTable.load(path, built_in=False)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("population of Peru", "34352719"),
        ("people of Peru", "34352719"),
        ("number of people of Peru", "34352719"),
        ("the number of inhabitants in  peru?", "34352719"),
        ("Size of the united states", "9833517"),
        ("area of USA", "9833517"),
        ("area of the U.S.A.", "9833517"),
        ("capital of America", "Washington, D.C."),
        ("people of Cote d\u2019Ivoire", "28873034"),
        ("people of IVORY COAST", "28873034"),
        ("neighbors of Peru", "Chile, Bolivia"),
        ("bordering countries of Peru", "Chile, Bolivia"),
        ("biggest city of Peru", "Lima"),
        ("Peru's largest city", "Lima"),
        ("capital of Gambia", "Banjul"),
        ("capital of the Gambia", "Banjul"),
        ("founding year of Peru", "1821"),
        ("area of Sudan", "1861484"),
        ("area of South Sudan", "644329"),
        ("capital of the Republic of the Congo", "Brazzaville"),
        ("capital of DR Congo", "Kinshasa"),
        ("capital of the Democratic Republic of the Congo", "Kinshasa"),
        # by full text
        ("Peru population", "34352719"),
        ("How many people live in Peru?", "34352719"),
        ("What is the area of South Sudan?", "644329"),
        ("what is peru's capital", "Lima"),
    ],
)
def test_known_facts_are_found(table: FactTable, query: str, value: str) -> None:
    found = table.find(query)
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    "query",
    [
        "dragons of Peru",
        "people of Atlantis",
        "capital of Congo",  # two countries
        "area of Republic",
        "area of Ivory",
        "population of States",
        "largest city of Bolivia",  # an empty cell
        "people of Lima",  # a value, not an entity
        "population of the capital of Peru",
        "population of Peru and Bolivia",
        "population of North Peru",
        "area year of Peru",
        "aliases of Bolivia",
        "Peru",
        "population",
        "of",
        " of ",
        "",
        "What is it?",
        '"population" OR peru',
        "population of Peru " * 10_000,
        " ".join(chr(97 + number % 26) + chr(97 + number // 26) for number in range(100)),
        "' " * 150,
        "population NEAR peru * ^ : -",
    ],
)
def test_what_is_not_known_or_not_clear_is_not_invented(table: FactTable, query: str) -> None:
    assert table.find(query) is None


def test_a_fact_says_its_year_and_source(table: FactTable, path: Path) -> None:
    assert table.find("people of USA") == Fact("United States", "population", "339996563", "2023", path, 4)
    found = table.fact("capital", "peru")
    assert found is not None
    assert found.year == ""


def test_a_table_lists_what_it_knows(table: FactTable) -> None:
    assert table.attributes == ("capital", "area", "population", "neighbours", "largest city", "founding year")
    assert table.entities[:3] == ("Peru", "Bolivia", "United States")


def test_the_later_table_is_believed(tmp_path: Path, path: Path) -> None:
    later = tmp_path / "mine.csv"
    later.write_text("country,inhabitants,schools\nUSA,5,6\nperu,7,\n")
    table = FactTable.load(path, later, built_in=False)
    queries = (
        "people of the United States",
        "schools of America",
        "population of Peru",
        "capital of Peru",
        "area of US",
    )
    values = [found.value if (found := table.find(query)) else None for query in queries]
    assert values == ["5", "6", "7", "Lima", "9833517"]
    found = table.find("How many people live in America?")
    assert found is not None
    assert (found.value, found.path, found.line) == ("5", later, 2)
    assert table.find("schools of Peru") is None


def test_names_that_differ_only_in_wording_are_one_entity(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("country,area\nThe Gambia,1\nGambia,2\n")
    with pytest.raises(DataError, match="line 3: 'Gambia' is already on line 2, written otherwise"):
        FactTable.load(path, built_in=False)


def test_no_table_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="no fact table"):
        FactTable.load(built_in=False)


@pytest.mark.anyio
async def test_the_tool_looks_up_and_says_unknown(path: Path) -> None:
    lookup = facts(path, built_in=False)
    assert lookup.name == "lookup"
    assert lookup.idempotent
    assert list(lookup.parameters["properties"]) == ["query"]
    assert await lookup("capital of Bolivia") == "Sucre"
    assert await lookup.invoke({"query": "dragons of Bolivia"}) == "unknown"


def test_a_faulty_table_is_refused_before_the_first_call(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't read .*nowhere\.csv"):
        facts(tmp_path / "nowhere.csv")


PIECES = [
    "population",
    "people",
    "of",
    "the",
    "Peru",
    "USA",
    "Congo",
    "'s",
    "?",
    "\0",
    '"',
    "*",
    "in",
    "größe",
    "人口",
    " ",
]


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=100) | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_any_query_is_answered(table: FactTable, query: str) -> None:
    found = table.find(query)
    assert found is None or found.value
