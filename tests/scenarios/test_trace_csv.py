"""Reading csv files of traces, with precise errors for damaged ones."""

import sys

import pytest

from jaxcec.scenarios.trace_csv import read_rows

LAYOUTS = {"short": ("name", "time"), "long": ("name", "start", "end")}


@pytest.fixture
def read(tmp_path):
    def write_and_read(content):
        path = tmp_path / "trace.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        layout, rows = read_rows(path, LAYOUTS, ("name",))
        return layout, rows.rows()

    return write_and_read


def test_the_number_of_columns_determines_the_layout(read):
    assert read("a,1\nb,2\n") == ("short", [("a", 1.0), ("b", 2.0)])
    assert read("a,1,2\n") == ("long", [("a", 1.0, 2.0)])


def test_a_header_sets_the_order_of_columns_and_others_are_left_out(read):
    assert read("index,time,name\n0,1.0,a\n1,2.5,b\n") == ("short", [("a", 1.0), ("b", 2.5)])


def test_empty_fields_are_nulls_and_empty_lines_are_skipped(read):
    assert read("a,\n\nb,\r\n,3\n") == ("short", [("a", None), ("b", None), ("", 3.0)])


@pytest.mark.parametrize(
    "content, message",
    [
        ("", r"trace.csv, line 1: empty; expected a csv file of 2 columns \(name, time\) or a csv file of 3"),
        ("a,b,c,d\n", r"trace.csv, line 1: 4 fields; expected a csv file of 2 columns"),
        ("a,1,2\nb,3,4\nc,5", r"trace.csv, line 3: 2 fields in 'c,5'; expected 3"),
        ("a,1\n\nb,2,3\n", r"trace.csv, line 3: 3 fields in 'b,2,3'; expected 2"),
        ("a,1\nb,x7\n", r"trace.csv, line 2, time: got 'x7'; expected a number or nothing"),
        ("a,1\nb,nan\n", r"trace.csv, line 2, time: got 'nan'; expected a number or nothing"),
        ("name,time\n", r"trace.csv: no rows"),
        (bytes(range(256)) * 4, r"trace.csv, line 1: .* fields; expected"),
        (b"a,1\n\x00\xff\xfe\x80\n", r"trace.csv, line 2: 1 fields in .*; expected 2"),
        (b"a,1\n\x01\xff\xfe\x80,\n", r"trace.csv: not a text file; expected"),
    ],
)
def test_an_error_names_the_line_of_a_damaged_file(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


def test_an_error_names_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.csv: no such file; expected a csv file"):
        read_rows(tmp_path / "nowhere.csv", LAYOUTS, ("name",))


def test_without_polars_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxcec\[trace\]'"):
        read_rows(tmp_path / "trace.csv", LAYOUTS, ("name",))
