"""Reading csv files of traces, with precise errors for damaged ones."""

import gzip
import io
import sys
import tarfile

import pytest

from jaxcec.readers import trace_csv
from jaxcec.readers.trace_csv import read_rows

LAYOUTS = {"short": ("name", "time"), "long": ("name", "start", "end")}


@pytest.fixture
def read(tmp_path):
    def write_and_read(content):
        path = tmp_path / "trace.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        layout, rows = read_rows(path, LAYOUTS, ("name",))
        return layout, rows.drop("line").rows()

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
        (b"a,1\n\x02,3\n", r"trace.csv: not a text file; expected"),
        ('a,1\n"b,x",2\n"c,3\nd,4\n', r"trace.csv, line 3: a quote has no end; expected a closing one"),
        ('a,1\nb"c"d,2\n', r"""trace.csv, line 2, name: got 'b"c"d'; expected quotes around the whole field"""),
        ('a,1\n"b"c"d",2\n', r"trace.csv, line 2, name: got .*; expected quotes around the whole field"),
        ('a,1\nb"",2\n', r"trace.csv, line 2, name: got .*; expected quotes around the whole field"),
        ('a,1\n"b\n",2\n"c",2,"d"\n', r"""trace.csv, line 4: 3 fields in '"c",2,"d"'; expected 2"""),
        ('"a",1\n"b,2"\n', r"""trace.csv, line 2: 1 fields in '"b,2"'; expected 2"""),
        ('"a",1\n"b","x"\n', r"trace.csv, line 2, time: got 'x'; expected a number or nothing"),
        ("a;1\n", r"trace.csv, line 1: 1 fields; expected a csv file of 2 columns"),
        ("name;time\na;1,5\n", r"trace.csv, line 2, time: got '1,5'; expected a number or nothing"),
    ],
)
def test_an_error_names_the_line_of_a_damaged_file(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


FORMS = {
    "quoted": '"a","1"\n"b",""\n',
    "quoted header": '"name","time"\n"a",1\n"b",\n',
    "index of pandas": ",name,time\n0,a,1\n1,b,\n",
    "index of R": '"","name","time"\n"1","a",1\n"2","b",\n',
    "semicolons": "name;time\na;1\nb;\n",
    "tabs": "\ttime\tname\n0\t1\ta\n1\t\tb\n",
    "blanks": ' name , time\n a , 1 \n"b "\t,\n',
    "byte order mark": '\ufeff"name";"time"\n"a";"1"\n"b";\n',
    "Windows": '"name","time"\r\n"a","1"\r\n"b",""\r\n',
    "Excel": "\ufefftime;name\r\n1;a\r\n;b\r\n",
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS.keys())
def test_rows_may_be_written_as_other_programs_write_them(read, content):
    assert read(content) == ("short", [("a", 1.0), ("b", None)])


@pytest.mark.parametrize("block", [1, 5, 2**24])
def test_quoted_fields_may_hold_separators_quotes_and_line_ends(read, block, monkeypatch):
    monkeypatch.setattr(trace_csv, "_BLOCK", block)
    rows = [("a,b", 1.0), ('say "a"', 2.0), ("two\nlines", 3.0), ('"', None), ("plain", 5.0)]
    content = '"a,b",1\n"say ""a""","2"\n"two\nlines",3\n"""",""\nplain,5\n'
    assert read(content) == ("short", rows)
    with pytest.raises(ValueError, match="line 7: 1 fields in 'cut'; expected 2"):
        read(content + "cut")


def test_a_column_may_have_one_of_several_names(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("seconds,name,x\n1,a,2\n")
    layout, rows = read_rows(path, {"own": ("name", "time or seconds")}, ("name",), headed=("own",))
    assert layout == "own" and rows.to_dicts() == [{"line": 2, "name": "a", "seconds": 1.0}]
    path.write_text("1,a\n")
    with pytest.raises(ValueError, match=r"line 1: 2 fields; expected a csv file with a header \(name, time or"):
        read_rows(path, {"own": ("name", "time or seconds")}, ("name",), headed=("own",))


def archive(members, mode="w:gz"):
    """The bytes of a tar archive of some files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


ROWS = b"name,time\na,1\nb,\n"
PACKED = {
    "gz": gzip.compress(ROWS),
    "two gz": gzip.compress(ROWS[:8]) + gzip.compress(ROWS[8:]),
    "byte order mark": gzip.compress(b"\xef\xbb\xbf" + ROWS),
    "tar.gz": archive({"README": b"x", "data/any.csv": ROWS}),
    "tar": archive({"any.CSV": ROWS}, mode="w:"),
    "meant": archive({"other.csv": b"x", "short_2018.csv": ROWS}),
    "macOS": archive({"._any.csv": b"\x00\x05", "any.csv": ROWS}),
}


@pytest.mark.parametrize("content", PACKED.values(), ids=PACKED.keys())
def test_files_may_be_compressed_and_in_an_archive(read, content):
    assert read(content) == ("short", [("a", 1.0), ("b", None)])


LONG = gzip.compress(b"".join(b"%d,%d\n" % (i * 7919 % 10007, i) for i in range(20_000)))


@pytest.mark.parametrize(
    "content, message",
    [
        (archive({"a.csv": ROWS, "b.csv": ROWS}), r"trace.csv: the archive holds \['a.csv', 'b.csv'\]; expected one"),
        (archive({"short.csv": ROWS, "my short.csv": ROWS}), r"trace.csv: the archive holds .*; expected one csv file"),
        (archive({"README": ROWS}), r"trace.csv: the archive holds \['README'\]; expected one csv file"),
        (LONG[: len(LONG) // 2], r"trace.csv: the compressed file or archive is damaged or was cut"),
        (LONG[:-9] + bytes(9), r"trace.csv: the compressed file or archive is damaged or was cut"),
        (LONG[:-8] + bytes(8), r"trace.csv: the compressed file or archive is damaged or was cut"),
        (LONG[:30] + bytes(30) + LONG[60:], r"trace.csv: the compressed file or archive is damaged or was cut"),
        (archive({"a.csv": ROWS}, mode="w:")[:520], r"trace.csv: the compressed file or archive is damaged or was cut"),
        (gzip.compress(bytes(2**25), mtime=0), r"trace.csv, line 1: more than 1,048,576 bytes; expected a line end or"),
        (gzip.compress(b'a,1\n"' + b"\n" * 2**25, mtime=0), r"trace.csv, line 2: more than 1,048,576 bytes; expected"),
        (gzip.compress(b"", mtime=0), r"trace.csv, line 1: empty; expected"),
    ],
)  # fmt: skip
def test_a_damaged_or_ambiguous_archive_is_refused(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


def test_an_error_names_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.csv: no such file; expected a csv file"):
        read_rows(tmp_path / "nowhere.csv", LAYOUTS, ("name",))


def test_without_polars_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxcec\[trace\]'"):
        read_rows(tmp_path / "trace.csv", LAYOUTS, ("name",))
