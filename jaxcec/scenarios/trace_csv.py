"""Reads the csv files of cluster traces with polars, and refuses damaged ones by line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# No trace contains it, so polars takes a whole line for one column and the fields can be counted here: polars itself
# fills a line that is too short with nulls, which is how the trace writes a missing value.
_NOT_A_SEPARATOR = "\x01"


def read_rows(
    path: str | Path, layouts: Mapping[str, tuple[str, ...]], text: tuple[str, ...]
) -> tuple[str, pl.DataFrame]:
    """Read a csv file in one of several layouts, with or without a header.

    A first line naming every column of a layout is a header: it sets the order of the columns, and others are left
    out. Without a header the layout is told by its number of columns. Empty fields are nulls; empty lines are skipped.

    Args:
        path: the file.
        layouts: the columns of each known layout, by the layout's name.
        text: columns kept as strings; all others are numbers.

    Returns:
        The layout's name, and its columns: String or Float64.

    Raises:
        ImportError: without polars.
        ValueError: with path, line and what is expected, if the file is missing, empty or in no known layout, if a
            line has another number of fields than the first (the last one, in a file cut short), or if a number
            is not one.
    """
    pl = import_polars()
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected {_expected(layouts)}")
    with path.open("rb") as file:
        first = file.readline(1000).decode("utf-8", "replace").strip().split(",")
    layout, header = _detect(path, first, layouts)
    columns = layouts[layout]
    try:
        strings = _fields(path, first if header else list(columns), columns, header)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path}: not a text file; expected {_expected(layouts)}") from error
    if strings.is_empty():
        raise ValueError(f"{path}: no rows; expected {_expected(layouts)}")
    return layout, _with_numbers(path, strings, [name for name in columns if name not in text])


def import_polars():
    """Return the module polars, or say how to install it."""
    try:
        import polars
    except ImportError as error:
        raise ImportError("reading a trace needs polars: pip install 'jaxcec[trace]'") from error
    return polars


def _detect(path: Path, first: list[str], layouts: Mapping[str, tuple[str, ...]]) -> tuple[str, bool]:
    """Return the layout and whether the first line is a header."""
    if first == [""]:
        raise ValueError(f"{path}, line 1: empty; expected {_expected(layouts)}")
    for layout, columns in layouts.items():
        if set(columns) <= set(first):
            return layout, True
    for layout, columns in layouts.items():
        if len(columns) == len(first):
            return layout, False
    raise ValueError(f"{path}, line 1: {len(first)} fields; expected {_expected(layouts)}")


def _fields(path: Path, in_file: list[str], wanted: tuple[str, ...], header: bool) -> pl.DataFrame:
    """Return the wanted columns as strings, with the line's number; refuse a line with another number of fields."""
    pl = import_polars()
    lines = pl.scan_csv(
        path,
        has_header=False,
        separator=_NOT_A_SEPARATOR,
        quote_char=None,
        schema={"line": pl.String},
        encoding="utf8-lossy",
    ).with_row_index("number", offset=1)
    lines = lines.filter(pl.col("line").is_not_null() & (pl.col("number") > header))
    separators = len(in_file) - 1
    ragged = lines.filter(pl.col("line").str.count_matches(",", literal=True) != separators).head(1).collect()
    for number, line in ragged.iter_rows():
        raise ValueError(
            f"{path}, line {number}: {line.count(',') + 1} fields in {line[:80]!r}; expected {len(in_file)}"
        )
    fields = lines.select("number", field=pl.col("line").str.split_exact(",", separators)).unnest("field")
    return fields.select("number", *(pl.col(f"field_{in_file.index(name)}").alias(name) for name in wanted)).collect()


def _with_numbers(path: Path, strings: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Turn columns into numbers, and empty fields into nulls; refuse anything else."""
    pl = import_polars()
    rows = strings.with_columns(pl.col(names).cast(pl.Float64, strict=False))
    for name in names:
        wrong = strings.filter((strings[name] != "") & ~rows[name].is_finite().fill_null(False))
        for number, value in wrong.head(1).select("number", name).iter_rows():
            raise ValueError(f"{path}, line {number}, {name}: got {value[:80]!r}; expected a number or nothing")
    return rows.drop("number")


def _expected(layouts: Mapping[str, tuple[str, ...]]) -> str:
    return " or ".join(f"a csv file of {len(columns)} columns ({', '.join(columns)})" for columns in layouts.values())
