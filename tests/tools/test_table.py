from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import DataError
from plait.tools.facts import FactTable
from plait.tools.table import Row, read_table


def write(folder: Path, content: str | bytes, name: str = "cities.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_read_whatever_its_delimiter(tmp_path: Path, delimiter: str) -> None:
    lines = ("city,people,mayor", "", "Lima,10390607,", "Cusco,428450,Ana  Paz")
    table = read_table(write(tmp_path, "\ufeff" + "\r\n".join(lines).replace(",", delimiter)))
    assert table.columns == ("city", "people", "mayor")
    assert table.rows == (Row(3, ("Lima", "10390607", "")), Row(4, ("Cusco", "428450", "Ana Paz")))


def test_quoted_cells_keep_commas_and_lines(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, 'country,neighbours\n"Peru","Chile,\nBolivia"\nFiji,none\n'))
    assert table.rows == (Row(2, ("Peru", "Chile, Bolivia")), Row(4, ("Fiji", "none")))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("34,352,719", "34352719"),
        ("1 285 216", "1285216"),
        ("1\u202f285\u202f216.5", "1285216.5"),
        ("-1,000", "-1000"),
        ("0.49", "0.49"),
        ("12,34", "12,34"),
        ("5 apples", "5 apples"),
    ],
)
def test_digits_grouped_in_threes_are_joined(tmp_path: Path, written: str, read: str) -> None:
    table = read_table(write(tmp_path, f'city,people\nLima,"{written}"\n'))
    assert table.rows[0].cells[1] == read


def test_jsonl_is_read_with_figures_as_written(tmp_path: Path) -> None:
    lines = (
        '{"city": "Lima", "people": 10390607, "area": 0.50, "aliases": ["Ciudad de los Reyes", "Lima, Peru"]}',
        '{"city": "Cusco", "rivers": ["Huatanay", "Tullumayo"], "coast": false, "people": null}',
    )
    table = read_table(write(tmp_path, "\n".join(lines), "cities.jsonl"))
    assert table.columns == ("city", "people", "area", "aliases", "rivers", "coast")
    assert table.rows[0].cells == ("Lima", "10390607", "0.50", "Ciudad de los Reyes|Lima, Peru", "", "")
    assert table.rows[1].cells == ("Cusco", "", "", "", "Huatanay, Tullumayo", "no")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cities\.csv is empty"),
        (b" \n\n", r"cities\.csv is empty"),
        (b"city,people\n", r"cities\.csv has no rows"),
        (b"city,people\nLima,1\nCusco,2,3\n", r"cities\.csv, line 3: 3 cells where the header has 2: Cusco, 2, 3"),
        (b"city,people\nLima\n", r"line 2: 1 cells where the header has 2"),
        (b"city,people\nLima,1\n\nlima,2\n", r"line 4: 'lima' is already on line 2"),
        (b"city,people\n,1\n", r"line 2: 'city' is empty"),
        (b"city,\nLima,1\n", r"line 1: column 2 has no name"),
        (b"city,people,people\nLima,1,2\n", r"line 1: two columns are named 'people'"),
        (b"Lima,10390607\nCusco,428450\n", r"line 1: '10390607' can't name a column; is the header missing\?"),
        (b"city,people\nLima,1\nM\xe9rida,2\n", r"line 3: byte 0xe9 is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"line 1: byte 0x89 is not UTF-8"),
        (b"PK\x03\x04\0\0,\n", r"line 1: holds a zero byte"),
        (b'{"city": "Lima"}\n', r"line 1: one column only"),
        (b";\n;\n", r"line 1: one column only"),
        (b"<html>\n<body>\n", r"line 1: one column only \(<html>\)"),
        (b'city,people\n"Lima,1\nCusco,2\n', r"line 2: is not CSV: unexpected end of data"),
        (b'city,people\nLima,"1"2\n', r"line 2: is not CSV"),
    ],
)
def test_faulty_csv_names_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"city": "Lima", "people": 1}\n{"city": "Cusco"', r"cities\.jsonl, line 2: is not JSON"),
        ('["Lima", 1]', r"line 1: is not a JSON object"),
        ('{"city": "Lima", "people": {"men": 1}}', r"line 1: 'people' holds an object"),
        ('{"city": "Lima", "people": 1}\n{"people": 2}', r"line 2: no 'city'"),
        ('{"city": "Lima", "people": 1}\n{"city": "Lima", "people": 2}', r"line 2: 'Lima' is already on line 1"),
        ('{"city": "Lima"}', r"line 1: one column only"),
        ("[" * 100_000, r"line 1: is not"),
    ],
)
def test_faulty_jsonl_names_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, content, "cities.jsonl"))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't read .*nowhere\.csv: No such file"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match=r"can't read .*: Is a directory"):
        read_table(tmp_path)


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=200) | st.text(',;"\n\r\ta1{}[]:', max_size=200).map(str.encode),
    st.sampled_from(["csv", "jsonl"]),
)
def test_any_bytes_give_a_table_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, kind: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{kind}"
    path.write_bytes(data)
    with suppress(DataError):
        table = FactTable.load(path, built_in=False)
        assert table.find("a of b") is None
        assert read_table(path).rows
