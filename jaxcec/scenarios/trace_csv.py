"""Reads csv files of cluster traces with polars, in blocks of lines, and reports damage with its line number."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# No trace contains this character, so polars reads a whole line as one column and the fields are counted here. Polars
# itself would complete a short line with nulls, which could not be distinguished from missing values.
_NOT_A_SEPARATOR = "\x01"
_BLOCK = 16 * 2**20  # bytes read at a time, the memory needed in addition to the columns that a caller keeps
_LONGEST_HEADER = 2**16  # bytes
_LARGEST = 1e15  # size of a number; larger ones, or their products, would be infinite in float32


def read_rows(
    path: str | Path, layouts: Mapping[str, tuple[str, ...]], text: tuple[str, ...]
) -> tuple[str, pl.DataFrame]:
    """Read a whole csv file; arguments, results and errors are those of `read_blocks`, its blocks concatenated."""
    layout, blocks = read_blocks(path, layouts, text)
    return layout, import_polars().concat(blocks)


def read_blocks(
    path: str | Path, layouts: Mapping[str, tuple[str, ...]], text: tuple[str, ...]
) -> tuple[str, Iterator[pl.DataFrame]]:
    """Read a csv file in one of several layouts, with or without a header, block by block.

    A first line that names every column of a layout is a header. It sets the order of the columns; columns that the
    layout does not name are left out. Without a header, the number of fields determines the layout. Empty fields are
    nulls; empty lines are skipped.

    Args:
        path: the file.
        layouts: column names of each known layout, by the name of the layout.
        text: columns kept as strings; all others are numbers.

    Returns:
        The name of the layout, and its columns in blocks of rows, String or Float64.

    Raises:
        ImportError: polars is not installed.
        ValueError: the file is missing, empty or in no known layout; a line has another number of fields than the first
            (the last line, in a file that was cut short); or a field is not a number of at most 1e15. The message gives
            the path, the line and what was expected. Errors inside a block are raised when the block is read.
    """
    import_polars()
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected {_expected(layouts)}")
    with path.open("rb") as file:
        first = file.readline(_LONGEST_HEADER).decode("utf-8-sig", "replace").strip().split(",")
    layout, header = _detect(path, first, layouts)
    return layout, _blocks(path, layouts, layout=layout, header=first if header else None, text=text)


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


def _detect(path: Path, first: list[str], layouts: Mapping[str, tuple[str, ...]]) -> tuple[str, bool]:
    """Return the name of the layout, and whether the first line is a header."""
    if first == [""]:
        raise ValueError(f"{path}, line 1: empty; expected {_expected(layouts)}")
    for layout, columns in layouts.items():
        if set(columns) <= set(first):
            for name in columns:
                if first.count(name) > 1:
                    raise ValueError(f"{path}, line 1: column {name} is named {first.count(name)} times; expected once")
            return layout, True
    for layout, columns in layouts.items():
        if len(columns) == len(first):
            return layout, False
    raise ValueError(f"{path}, line 1: {len(first)} fields; expected {_expected(layouts)}")


def _blocks(
    path: Path, layouts: Mapping[str, tuple[str, ...]], *, layout: str, header: list[str] | None, text: tuple[str, ...]
) -> Iterator[pl.DataFrame]:
    """Read the columns of a layout block by block; `header` is the first line if it is one."""
    columns, empty = layouts[layout], True
    for number, block in _whole_lines(path):
        if _NOT_A_SEPARATOR.encode() in block:
            raise ValueError(f"{path}: not a text file; expected {_expected(layouts)}")
        lines = _numbered(block, number).filter(import_polars().col("number") > (header is not None))
        if not lines.is_empty():
            empty = False
            strings = _fields(path, lines, in_file=header or list(columns), wanted=columns)
            yield _with_numbers(path, strings, [name for name in columns if name not in text])
    if empty:
        raise ValueError(f"{path}: no rows; expected {_expected(layouts)}")


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Cut a file into blocks of whole lines, each with the number of its first line."""
    number, rest = 1, b""
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        while block := file.read(_BLOCK):
            end = block.rfind(b"\n") + 1
            if end:
                lines = rest + block[:end]
                yield number, lines
                number, rest = number + lines.count(b"\n"), b""
            rest += block[end:]
    if rest:
        yield number, rest


def _numbered(block: bytes, number: int) -> pl.DataFrame:
    """Return the non-empty lines of a block; the first line of the block has number `number`."""
    pl = import_polars()
    lines = pl.read_csv(
        b"\n" + block,  # polars drops a byte order mark at the very beginning, but this may be any line of the file
        has_header=False,
        separator=_NOT_A_SEPARATOR,
        quote_char=None,
        schema={"line": pl.String},
        encoding="utf8-lossy",
        raise_if_empty=False,
    )
    return lines.with_row_index("number", offset=number - 1).filter(pl.col("line").is_not_null())


def _fields(path: Path, lines: pl.DataFrame, *, in_file: list[str], wanted: tuple[str, ...]) -> pl.DataFrame:
    """Return the wanted columns as strings, with line numbers; raise ValueError for a wrong number of fields."""
    pl = import_polars()
    separators = len(in_file) - 1
    ragged = lines.filter(pl.col("line").str.count_matches(",", literal=True) != separators)
    for number, line in ragged.head(1).iter_rows():
        raise ValueError(
            f"{path}, line {number}: {line.count(',') + 1} fields in {line[:80]!r}; expected {len(in_file)}"
        )
    fields = lines.select("number", field=pl.col("line").str.split_exact(",", separators)).unnest("field")
    return fields.select("number", *(pl.col(f"field_{in_file.index(name)}").alias(name) for name in wanted))


def _with_numbers(path: Path, strings: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Convert columns to numbers and empty fields to nulls; raise ValueError for any other field."""
    pl = import_polars()
    rows = strings.with_columns(pl.col(names).cast(pl.Float64, strict=False))
    for name in names:
        wrong = strings.filter((strings[name] != "") & ~(rows[name].abs() <= _LARGEST).fill_null(False))
        for number, value in wrong.head(1).select("number", name).iter_rows():
            expected = f"expected a number or nothing, at most {_LARGEST:g} in size"
            raise ValueError(f"{path}, line {number}, {name}: got {value[:80]!r}; {expected}")
    return rows.drop("number")


def _expected(layouts: Mapping[str, tuple[str, ...]]) -> str:
    return " or ".join(f"a csv file of {len(columns)} columns ({', '.join(columns)})" for columns in layouts.values())
