"""Reads csv files of traces as people have them, in blocks of lines, and reports damage with its line number.

Files may be compressed, fields quoted, and the columns of a header in any order. Polars does the reading.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import itertools
import tarfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import polars as pl

Layouts = Mapping[str, tuple[str, ...]]
Unpacked = IO[bytes] | gzip.GzipFile

# No trace contains these characters. Polars reads a whole line as one column, and the fields are counted here: polars
# itself would complete a short line with nulls, which could not be distinguished from missing values. In a block with
# quotes, the other two take the place of the separators outside quotes and of the line ends inside them.
_NOT_A_SEPARATOR, _SEPARATOR, _LINE_END = _MARKS = "\x01\x02\x03"
_BLOCK = 16 * 2**20  # bytes read at a time, the memory needed in addition to the columns that a caller keeps
_LONGEST_LINE = 2**20  # bytes; limits the memory that a quote without end takes, or a few bytes that unpack to many
_LONGEST_HEADER = 2**16  # bytes
_LARGEST = 1e15  # size of a number; larger ones, or their products, would be infinite in float32


class _Form(NamedTuple):
    """How a file is written."""

    layout: str
    separator: str
    fields: int  # in each line
    columns: dict[str, int]  # position in a line of each column of the layout, by its name in the file
    header: bool


def read_rows(
    path: str | Path, layouts: Layouts, text: Collection[str], *, headed: Collection[str] = ()
) -> tuple[str, pl.DataFrame]:
    """Read a whole csv file; arguments, results and errors are those of `read_blocks`, its blocks concatenated."""
    layout, blocks = read_blocks(path, layouts, text, headed=headed)
    return layout, import_polars().concat(blocks)


def read_blocks(
    path: str | Path, layouts: Layouts, text: Collection[str], *, headed: Collection[str] = ()
) -> tuple[str, Iterator[pl.DataFrame]]:
    """Read a csv file in one of several layouts, with or without a header, block by block.

    A first line that names every column of a layout is a header. It sets the separator, a comma, a semicolon or a tab,
    and the order of the columns; columns that the layout does not name are left out. Without a header, the separator
    is a comma, and the number of fields determines the layout. Empty fields are nulls; empty lines are skipped. Fields
    may be quoted, and blanks around them are removed.

    A file that gzip compressed is unpacked while it is read, and of a tar archive its only csv file is read, or the one
    whose name contains that of a layout. Content decides, not the ending of the name.

    Args:
        path: the file.
        layouts: column names of each known layout, by the name of the layout; "a or b" is a column of either name.
        text: columns kept as strings, under each of their names; all others are numbers.
        headed: layouts that only a header can select.

    Returns:
        The name of the layout, and in blocks of rows `line`, the number of a row's line, followed by the columns of the
        layout under their names in the file, String or Float64.

    Raises:
        ImportError: polars is not installed.
        ValueError: the file is missing, empty or in no known layout; it is compressed and damaged, or an archive
            without one csv file that is meant; a line has another number of fields than the first (the last line, in a
            file that was cut short); a quote is inside a field or without end; or a field is not a number of at most
            1e15. The message gives the path, the line and what was expected. Errors inside a block are raised when the
            block is read.
    """
    import_polars()
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected {_expected(layouts, headed)}")
    blocks = _whole_lines(path, layouts)
    number, first = next(blocks, (1, b""))
    form = _detect(path, first[:_LONGEST_HEADER], layouts, headed=headed)
    numeric = [name for name in form.columns if name not in text]
    rows = _rows(path, itertools.chain([(number, first)], blocks), form, numeric=numeric)
    return form.layout, rows


def import_polars() -> ModuleType:
    """Return the module polars.

    Raises:
        ImportError: polars is not installed; the message says how to install it.
    """
    try:
        import polars
    except ImportError as error:
        raise ImportError("reading a trace needs polars: pip install 'jaxcec[trace]'") from error
    return polars


def _detect(path: Path, start: bytes, layouts: Layouts, *, headed: Collection[str]) -> _Form:
    """Return how a file is written that begins with some bytes."""
    for separator in ",;\t":
        first = _first_line(start, separator)
        for layout, columns in layouts.items():
            named = [next((name for name in column.split(" or ") if name in first), "") for column in columns]
            if not all(named):
                continue
            for name in named:
                if first.count(name) > 1:
                    raise ValueError(f"{path}, line 1: column {name} is named {first.count(name)} times; expected once")
            return _Form(layout, separator, len(first), {name: first.index(name) for name in named}, header=True)
    first = _first_line(start, ",")
    if first == [""]:
        raise ValueError(f"{path}, line 1: empty; expected {_expected(layouts, headed)}")
    for layout, columns in layouts.items():
        if len(columns) == len(first) and layout not in headed:
            return _Form(layout, ",", len(first), {name: i for i, name in enumerate(columns)}, header=False)
    unknown = ", since without one the units are unknown" if len(first) in {len(layouts[x]) for x in headed} else ""
    raise ValueError(f"{path}, line 1: {len(first)} fields; expected {_expected(layouts, headed)}{unknown}")


def _first_line(start: bytes, separator: str) -> list[str]:
    """Return the fields of the first line, without quotes."""
    line = _marked(start.translate(None, _MARKS.encode()), separator).split(b"\n", 1)[0].decode("utf-8", "replace")
    return [field.strip(' \t\r"') for field in line.split(_SEPARATOR)]


def _rows(
    path: Path, blocks: Iterator[tuple[int, bytes]], form: _Form, *, numeric: list[str]
) -> Iterator[pl.DataFrame]:
    """Read the columns of a file block by block."""
    pl, empty = import_polars(), True
    for number, block in blocks:
        if any(mark.encode() in block for mark in _MARKS):
            raise ValueError(f"{path}: not a text file; expected a csv file")
        quoted = b'"' in block
        lines = _numbered(_marked(block, form.separator) if quoted else block, number)
        lines = lines.filter(pl.col("line") > form.header)
        if not lines.is_empty():
            empty = False
            fields = _fields(path, lines, form, separator=_SEPARATOR if quoted else form.separator)
            if quoted or b" " in block or b"\t" in block:  # they are absent from the official files, and take time
                fields = _bare(path, fields, list(form.columns))
            yield _with_numbers(path, fields, numeric)
    if empty:
        raise ValueError(f"{path}: no rows; expected a csv file with the columns {', '.join(form.columns)}")


def _whole_lines(path: Path, names: Collection[str]) -> Iterator[tuple[int, bytes]]:
    """Cut a file into blocks of whole lines, each with the number of its first line."""
    number, rest = 1, b""
    with _unpacked(path, names) as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        while block := file.read(_BLOCK):
            block = rest + block
            end = _end_of_lines(block)
            if end:
                yield number, block[:end]
                number += block.count(b"\n", 0, end)
            rest = block[end:]
            if len(rest) > _LONGEST_LINE:
                raise ValueError(
                    f"{path}, line {number}: more than {_LONGEST_LINE:,} bytes; expected a line end or a closing quote"
                )
    if rest.count(b'"') % 2:
        raise ValueError(f"{path}, line {number}: a quote has no end; expected a closing one")
    if rest:
        yield number, rest


def _end_of_lines(block: bytes) -> int:
    """Return the position behind the last line end that is not inside quotes, 0 if there is none."""
    end = block.rfind(b"\n") + 1
    inside = block.count(b'"', 0, end) % 2
    while inside:
        before = block.rfind(b"\n", 0, block.rfind(b'"', 0, end)) + 1
        inside ^= block.count(b'"', before, end) % 2
        end = before
    return end


@contextlib.contextmanager
def _unpacked(path: Path, names: Collection[str]) -> Iterator[Unpacked]:
    """Open a file, unpacked if it is compressed or in an archive; `names` are those that its csv file may contain."""
    with contextlib.ExitStack() as stack:
        file: Unpacked = stack.enter_context(path.open("rb"))
        try:
            if _has(file, b"\x1f\x8b", at=0):
                file = stack.enter_context(gzip.open(file))
            if _has(file, b"ustar", at=257):
                file = _csv_of_archive(path, stack.enter_context(tarfile.open(fileobj=file, mode="r:")), names)
            yield file
        except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
            raise ValueError(f"{path}: the compressed file or archive is damaged or was cut ({error})") from None


def _has(file: Unpacked, magic: bytes, *, at: int) -> bool:
    """Whether a file has some bytes at a place, by which a format is known."""
    found = file.read(at + len(magic))[at:]
    file.seek(0)
    return found == magic


def _csv_of_archive(path: Path, archive: tarfile.TarFile, names: Collection[str]) -> IO[bytes]:
    """Open the only csv file of an archive, or the one that is meant; macOS adds files that begin with "._"."""
    members = {member.name: member for member in archive if member.isreg()}
    found = [x for x in members if x.lower().endswith(".csv") and not PurePosixPath(x).name.startswith("._")]
    if len(found) > 1:
        found = [x for x in found if any(name in PurePosixPath(x).name for name in names)]
    file = archive.extractfile(members[found[0]]) if len(found) == 1 else None
    if file is None:
        raise ValueError(f"{path}: the archive holds {str(list(members))[:500]}; expected one csv file")
    return file


def _marked(block: bytes, separator: str) -> bytes:
    """Replace the separators outside quotes and the line ends inside them by characters that occur nowhere else."""
    data = np.frombuffer(block, np.uint8).copy()
    inside = np.logical_xor.accumulate(data == ord('"'))
    data[(data == ord(separator)) & ~inside] = ord(_SEPARATOR)
    data[(data == ord("\n")) & inside] = ord(_LINE_END)
    return data.tobytes()


def _numbered(block: bytes, number: int) -> pl.DataFrame:
    """Return the non-empty lines of a block; the first line of the block has number `number`."""
    pl = import_polars()
    lines = pl.read_csv(
        b"\n" + block,  # polars drops a byte order mark at the very beginning, but this may be any line of the file
        has_header=False,
        separator=_NOT_A_SEPARATOR,
        quote_char=None,
        schema={"text": pl.String},
        encoding="utf8-lossy",
        raise_if_empty=False,
    )
    lines = lines.with_row_index("line", offset=number - 1)
    if _LINE_END.encode() in block:
        further = pl.col("text").str.count_matches(_LINE_END, literal=True).fill_null(0).cum_sum()
        lines = lines.with_columns(pl.col("line") + further.shift(1, fill_value=0))
    return lines.filter(pl.col("text").is_not_null())


def _fields(path: Path, lines: pl.DataFrame, form: _Form, *, separator: str) -> pl.DataFrame:
    """Return the columns of the layout as strings, with line numbers; raise ValueError for a wrong number of fields."""
    pl = import_polars()
    ragged = lines.filter(pl.col("text").str.count_matches(separator, literal=True) != form.fields - 1)
    for number, text in ragged.head(1).iter_rows():
        got = f"{text.count(separator) + 1} fields in {text[:80].replace(separator, form.separator)!r}"
        raise ValueError(f"{path}, line {number}: {got}; expected {form.fields}")
    fields = lines.select("line", field=pl.col("text").str.split_exact(separator, form.fields - 1)).unnest("field")
    return fields.select("line", *(pl.col(f"field_{i}").alias(name) for name, i in form.columns.items()))


def _bare(path: Path, fields: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Remove blanks around fields and quotes; raise ValueError for a field with a quote that is not quoted whole."""
    pl = import_polars()
    fields = fields.with_columns(pl.col(names).str.strip_chars(" \t"))
    inner = fields.with_columns(pl.col(names).str.strip_prefix('"').str.strip_suffix('"'))
    for name in names:
        field = pl.col(name).str
        whole = fields.select(field.starts_with('"') & field.ends_with('"') | ~field.contains('"', literal=True))
        doubled = inner.select(~field.replace_all('""', "", literal=True).str.contains('"', literal=True))
        for number, value in fields.filter(~(whole[name] & doubled[name])).head(1).select("line", name).iter_rows():
            expected = "expected quotes around the whole field, and doubled ones inside"
            raise ValueError(f"{path}, line {number}, {name}: got {value[:80]!r}; {expected}")
    text = pl.col(names).str.replace_all('""', '"', literal=True).str.replace_all(_LINE_END, "\n", literal=True)
    return inner.with_columns(text.str.strip_chars(" \t"))


def _with_numbers(path: Path, strings: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Convert columns to numbers and empty fields to nulls; raise ValueError for any other field."""
    pl = import_polars()
    rows = strings.with_columns(pl.col(names).cast(pl.Float64, strict=False))
    for name in names:
        wrong = strings.filter((strings[name] != "") & ~(rows[name].abs() <= _LARGEST).fill_null(False))
        for number, value in wrong.head(1).select("line", name).iter_rows():
            expected = f"expected a number or nothing, at most {_LARGEST:g} in size"
            raise ValueError(f"{path}, line {number}, {name}: got {value[:80]!r}; {expected}")
    return rows


def _expected(layouts: Layouts, headed: Collection[str]) -> str:
    return " or ".join(
        f"a csv file with a header ({', '.join(columns)})"
        if layout in headed
        else f"a csv file of {len(columns)} columns ({', '.join(columns)})"
        for layout, columns in layouts.items()
    )
