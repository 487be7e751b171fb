"""Tables and models in files, for the command line.

A CSV file has no dtypes. `read_table` decides what each column holds, and notes how it was written
(a `CsvFormat`), so that rows drawn from a model are written in the same way.
"""

from __future__ import annotations

import gzip
import io
import os
import pathlib
import re
import signal
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import IO, Any

import numpy as np
import pandas as pd

from sktvae._warnings import warn_user

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "<NA>")
_SEPARATORS = ",;\t|"
# Only formats that can be read in one way; 03/04/2024 cannot.
_DATE_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y")
_TIME_FORMATS = (
    *_DATE_FORMATS,
    *(
        f"{day}{between}{clock}{zone}"
        for day in _DATE_FORMATS
        for between in " T"
        for clock in ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")
        for zone in ("", "Z")
    ),
)
_INTEGER = r"-?(?:0|[1-9][0-9]{0,14})"  # longer ones are not exact as floats: they stay text
_NUMBER = r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_LONG_INTEGER = r"-?[0-9]{16,}"
_SIGNALLED = 128  # plus the number of the signal is the exit code, as in shells
_CSV, _PARQUET, _ARROW = (".csv", ".tsv", ".txt"), (".parquet", ".pq"), (".arrow", ".feather")


class FileError(Exception):
    """A file that cannot be read or written; the message says why, and what to do."""


@dataclass
class CsvFormat:
    """How a CSV file is written.

    Attributes
    ----------
    sep, decimal : str
    missing : str
        The marker of a missing value.
    columns : dict of str to str
        What each column holds: "text", "integer", "number", "boolean", "time" or "duration"; or
        how it is written: "%.2f" for two decimals, "%Y-%m-%d" and the like for times.
    """

    sep: str = ","
    decimal: str = "."
    missing: str = ""
    columns: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """Return plain values, which skops can save."""
        return asdict(self)


@dataclass
class CsvOptions:
    """What the user says about CSV files."""

    sep: str | None = None
    decimal: str = "."
    missing: tuple[str, ...] = MISSING
    time_formats: tuple[str, ...] = ()


@dataclass
class Table:
    """A table that was read from a file.

    Attributes
    ----------
    frame : DataFrame
    csv : CsvFormat
        How the file was written; what a CSV file of this table would look like, if it was none.
    text : DataFrame or None
        The cells of a CSV file as they are.
    absent : DataFrame of bool or None
        Which cells of a CSV file are missing.
    """

    frame: pd.DataFrame
    csv: CsvFormat
    text: pd.DataFrame | None = None
    absent: pd.DataFrame | None = None


# Reading

# Of Parquet, on disk. In memory, a table takes several times as much.
_LARGE_FILE = 2**30


def parquet_dataset(path: str) -> Any:
    """Return a Parquet file, or those of a folder, as a dataset, which `fit` reads in pieces."""
    from pyarrow import dataset

    try:
        files = dataset.dataset(path, format="parquet")
    except (OSError, ValueError) as error:
        raise FileError(f"{path} could not be read as Parquet: {_words(error)}.") from error
    if not files.schema.names:
        raise FileError(f"{path} holds no Parquet files.")
    return files


def only_columns(dataset: Any, names: list[str]) -> Any:
    """Return a dataset with these columns."""
    import pyarrow as pa

    return dataset.replace_schema(pa.schema([dataset.schema.field(name) for name in names]))


def is_large(path: str) -> bool:
    """Whether a table is read piece by piece: folders, and Parquet files of more than 1 GB."""
    if os.path.isdir(path):
        return True
    is_file = path != "-" and os.path.isfile(path) and kind_of_file(path) == "parquet"
    return is_file and os.path.getsize(path) > _LARGE_FILE


def kind_of_file(path: str) -> str:
    """Return "csv", "parquet" or "arrow" by the end of a file's name; "-" is CSV."""
    if path == "-":
        return "csv"
    suffix = pathlib.Path(path.removesuffix(".gz")).suffix.lower()
    for kind, suffixes in (("csv", _CSV), ("parquet", _PARQUET), ("arrow", _ARROW)):
        if suffix in suffixes and (kind == "csv" or not path.endswith(".gz")):
            return kind
    raise FileError(
        f"The name {path!r} does not say what kind of table the file holds. It must end in "
        f"{', '.join((*_CSV, '.csv.gz', *_PARQUET, *_ARROW))}, or be - for CSV on standard input "
        "or output."
    )


def read_table(
    path: str, options: CsvOptions | None = None, columns: dict[str, str] | None = None
) -> Table:
    """Read a table from a file, or from standard input.

    Parameters
    ----------
    path : str
        Its end says what kind of file it is; "-" is CSV on standard input.
    options : CsvOptions, default=None
    columns : dict of str to str, default=None
        What the columns of a CSV file hold, see `CsvFormat`. Others are recognised.
    """
    kind = kind_of_file(path)
    if kind != "csv":
        read: Callable = pd.read_parquet if kind == "parquet" else pd.read_feather
        frame = read(path, dtype_backend="pyarrow")
        coded = [name for name in frame if str(frame[name].dtype).startswith("dictionary")]
        # pandas cannot read its own files of Arrow's dictionaries.
        frame = frame.astype(dict.fromkeys(coded, "category"))
        return Table(frame, CsvFormat(columns=described(frame)))
    options = options or CsvOptions()
    text, sep = _read_cells(path, options.sep)
    csv = CsvFormat(sep, options.decimal)
    typed, absent = {}, {}
    for name in text:
        # Each different cell is looked at once.
        at, different = pd.factorize(text[name])
        cells = pd.Series(different, name=name)
        gone = cells.isin(list(options.missing))
        wanted = (columns or {}).get(name)
        values, csv.columns[name] = (
            _recognised(cells, gone, options)
            if wanted is None
            else _converted(cells, gone, wanted, options)
        )
        typed[name] = values.take(at).reset_index(drop=True)
        absent[name] = gone.to_numpy()[at]
    csv.missing = _usual_marker(text, pd.DataFrame(absent))
    return Table(pd.DataFrame(typed), csv, text, pd.DataFrame(absent))


def described(frame: pd.DataFrame) -> dict[str, str]:
    """Return what the columns of a table hold, in the words of `CsvFormat`."""
    return {str(name): _described(frame[name]) for name in frame}


def _described(column: pd.Series) -> str:
    types = pd.api.types
    if types.is_bool_dtype(column):
        return "boolean"
    if types.is_integer_dtype(column):
        return "integer"
    if types.is_numeric_dtype(column):
        return "number"
    if types.is_datetime64_any_dtype(column) or "date" in str(column.dtype):
        return "time"
    return "duration" if types.is_timedelta64_dtype(column) else "text"


def matched(text: pd.Series, values: Iterable) -> pd.Series:
    """Return text with those of some values that are written so in its place."""
    known = {str(value): value for value in values if not isinstance(value, str)}
    return text.map(lambda cell: known.get(cell, cell)).astype(object) if known else text


def _read_cells(path: str, sep: str | None) -> tuple[pd.DataFrame, str]:
    """Return the cells of a CSV file as text, and the character between them."""
    data = sys.stdin.buffer.read() if path == "-" else pathlib.Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    where = "standard input" if path == "-" else path
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"{where} is not UTF-8: byte {data[error.start]:#x} at {error.start}. Convert it, for "
            f"example with iconv -f latin1 -t utf-8."
        ) from error
    if not text.strip():
        raise FileError(f"{where} is empty. It must be CSV with the names of the columns first.")
    header = re.sub(r'"[^"]*"', "", text.split("\n", 1)[0])
    sep = sep or max(_SEPARATORS, key=header.count)  # the first of equals: a comma
    try:
        with warnings.catch_warnings():  # that a line has more cells than the header
            warnings.simplefilter("error", pd.errors.ParserWarning)
            cells = pd.read_csv(
                io.StringIO(text),
                sep=sep,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                skipinitialspace=True,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise FileError(
            f"{where} is not a CSV file with {sep!r} between cells and as many cells in each line "
            f"as there are names in the first: {error}"
        ) from error
    _check_names(text, sep, where)
    return cells.rename(columns=str), sep


def _check_names(text: str, sep: str, where: str) -> None:
    """Raise FileError if a name occurs twice; pandas would number them."""
    header = pd.read_csv(
        io.StringIO(text), sep=sep, header=None, nrows=1, dtype=str, skipinitialspace=True
    )
    names = header.iloc[0].dropna()
    twice = names[names.duplicated()]
    if len(twice):
        raise FileError(f"{where} has two columns named {twice.iloc[0]!r}. Rename one of them.")


def _usual_marker(text: pd.DataFrame, absent: pd.DataFrame) -> str:
    found = [text.loc[absent[name], name].value_counts() for name in text]
    rows = pd.concat(found).groupby(level=0).sum()
    return "" if rows.empty else str(rows.idxmax())


def _recognised(text: pd.Series, absent: pd.Series, options: CsvOptions) -> tuple[pd.Series, str]:
    """Return a column of text as what it holds, and how this is written."""
    present = text[~absent]
    if present.empty:
        return pd.Series(np.nan, index=text.index), "number"
    dotted = present if options.decimal == "." else present.str.replace(options.decimal, ".")
    if _all_match(present, _INTEGER):
        return _numbers(text, absent, "integer", options), "integer"
    if _all_match(dotted, _NUMBER) and not present.str.fullmatch(_LONG_INTEGER).any():
        numbers = _numbers(text, absent, "number", options)
        if not np.isinf(numbers).any():
            return numbers, _decimals(dotted)
    for time_format in (*options.time_formats, *_TIME_FORMATS):
        try:
            pd.to_datetime(present.iloc[:20], format=time_format)
            return _times(text, absent, time_format), time_format
        except (ValueError, OverflowError):
            continue
    commas = present.str.replace(",", ".")
    has_comma = present.str.contains(",", regex=False).any()
    if has_comma and options.decimal == "." and _all_match(commas, _NUMBER):
        warn_user(
            f"Column {text.name!r} is taken for text. If its values, such as {present.iloc[0]!r}, "
            "are numbers with a decimal comma, say so: --decimal ,"
        )
    return text.where(~absent, None), "text"


def _all_match(text: pd.Series, pattern: str) -> bool:
    start = text.iloc[:20]
    return bool(start.str.fullmatch(pattern).all() and text.str.fullmatch(pattern).all())


def _decimals(text: pd.Series) -> str:
    """Return "%.2f" if all numbers have two decimals, and so on; else "number"."""
    fraction = text.str.partition(".")[2]
    lengths = fraction.str.len().unique()
    same = len(lengths) == 1 and not text.str.contains("e", case=False, regex=False).any()
    return f"%.{int(lengths[0])}f" if same and lengths[0] else "number"


def _converted(
    text: pd.Series, absent: pd.Series, wanted: str, options: CsvOptions
) -> tuple[pd.Series, str]:
    """Return a column of text as what it must hold."""
    try:
        if wanted in ("integer", "number") or wanted.endswith("f"):
            return _numbers(text, absent, wanted, options), wanted
        if wanted == "duration":
            return pd.to_timedelta(text.where(~absent, None)), wanted
        if wanted == "time" or "%" in wanted:
            return _times(text, absent, None if wanted == "time" else wanted), wanted
    except (ValueError, OverflowError) as error:
        raise FileError(f"Column {text.name!r} does not hold what it should: {error}.") from error
    if wanted == "boolean":
        known = text.str.lower().map({"true": True, "false": False, "1": True, "0": False})
        wrong = text[known.isna() & ~absent]
        if len(wrong):
            raise FileError(f"Column {text.name!r} holds {wrong.iloc[0]!r}, not true or false.")
        return known.where(~absent, None).astype("boolean" if absent.any() else "bool"), wanted
    return text.where(~absent, None), wanted


def _numbers(text: pd.Series, absent: pd.Series, wanted: str, options: CsvOptions) -> pd.Series:
    if options.decimal != ".":
        text = text.str.replace(options.decimal, ".")
    numbers = pd.to_numeric(text.where(~absent, None).astype(object))
    if wanted != "integer":
        return numbers.astype(float)
    whole = bool((numbers.dropna() % 1 == 0).all())
    return numbers.astype("Int64" if absent.any() else "int64") if whole else numbers


def _times(text: pd.Series, absent: pd.Series, time_format: str | None) -> pd.Series:
    return pd.to_datetime(text.where(~absent, None), format=time_format)


# Writing


def check_folder(path: str) -> None:
    """Raise FileError if there is no folder for a file that is to be written."""
    folder = pathlib.Path(path).parent
    if path != "-" and not folder.is_dir():
        raise FileError(f"There is no folder {str(folder)!r} to write {path!r} to. Make it first.")


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Give the name of a temporary file that becomes `path` if nothing fails.

    It is removed otherwise, also if the process is to end because of SIGTERM.
    """
    target = pathlib.Path(path)
    if target.exists() and not target.is_file():  # a pipe, /dev/stdout
        yield path
        return
    check_folder(path)
    with _exit_on_sigterm():
        yield from _replacing(target.resolve(), path)  # a link stays one


def _replacing(target: pathlib.Path, path: str) -> Iterator[str]:
    """Yield the name of a temporary file once, and then put the file in the place of another."""
    suffix = "".join(target.suffixes[-2:]) if path.endswith(".gz") else target.suffix
    handle, name = tempfile.mkstemp(suffix, f".{target.stem}.", target.parent)
    os.close(handle)
    try:
        yield name
        mask = os.umask(0)
        os.umask(mask)
        # mkstemp's files are private; a file that is replaced stays as private as it is.
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~mask
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Within the context, SIGTERM raises SystemExit, so that files are closed and removed.

    A second one ends the process at once. If the program has a handler of its own, it stays. Only
    the main thread can set one.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, _: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(_SIGNALLED + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def write_table(blocks: Iterable[pd.DataFrame], path: str, csv: CsvFormat) -> None:
    """Write blocks of rows to one file, or to standard output, one after the other."""
    kind = kind_of_file(path)
    if path.removesuffix(".gz").lower().endswith(".tsv"):
        csv = replace(csv, sep="\t")
    if path == "-":
        _write_csv(blocks, sys.stdout, csv)
        sys.stdout.flush()
        return
    with replacing(path) as name:
        if kind == "csv":
            opened: Any = gzip.open if path.endswith(".gz") else open
            with opened(name, "wt", encoding="utf-8", newline="") as file:
                _write_csv(blocks, file, csv)
            return
        _write_arrow(blocks, name, kind)


def _write_arrow(blocks: Iterable[pd.DataFrame], name: str, kind: str) -> None:
    """Write a Parquet or an Arrow file whose schema is that of the first block."""
    import pyarrow as pa

    with ExitStack() as stack:
        writer = None
        for frame in blocks:
            if writer is None:
                schema = _schema_of(frame)
                writer = stack.enter_context(_arrow_writer(name, kind, schema))
            try:
                rows = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise FileError(
                    f"The rows cannot be written as {kind}, because a column holds values of "
                    f"several types: {error}. Write them as CSV."
                ) from error
            writer.write_table(rows)


def _arrow_writer(name: str, kind: str, schema: Any) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    if kind == "parquet":
        return parquet.ParquetWriter(name, schema)
    codec = "lz4" if pa.Codec.is_available("lz4") else None  # as pandas does
    return pa.ipc.new_file(name, schema, options=pa.ipc.IpcWriteOptions(compression=codec))


def _schema_of(frame: pd.DataFrame) -> Any:
    """Return the Arrow schema of a block of rows; columns without a value are taken for text."""
    import pyarrow as pa

    schema = pa.Schema.from_pandas(frame, preserve_index=False)
    for i, field_ in enumerate(schema):
        if pa.types.is_null(field_.type):
            schema = schema.set(i, field_.with_type(pa.string()))
    return schema


def _write_csv(blocks: Iterable[pd.DataFrame], file: IO[str], csv: CsvFormat) -> None:
    for i, frame in enumerate(blocks):
        frame = as_text(frame, csv)
        frame.to_csv(
            file,
            sep=csv.sep,
            decimal=csv.decimal,
            na_rep=csv.missing,
            index=False,
            header=i == 0,
            lineterminator="\n",
        )


def as_text(frame: pd.DataFrame, csv: CsvFormat) -> pd.DataFrame:
    """Return a table whose columns are text where `csv` says how they are written."""
    out = frame.copy(deep=False)
    for name in frame:
        how, column = csv.columns.get(str(name), ""), frame[name]
        if how.startswith("%.") and pd.api.types.is_float_dtype(column):
            shown = [how % v for v in column.to_numpy(dtype=float)]
            text = pd.Series(shown, index=column.index).str.replace(".", csv.decimal, regex=False)
            out[name] = text.where(column.notna(), None)
        elif "%" in how and pd.api.types.is_datetime64_any_dtype(column):
            out[name] = column.dt.strftime(how)
    return out


# Models

_PICKLES = (".joblib", ".pkl", ".pickle")
# Besides classes of sktvae, a .skops file may hold values of these types, which run no code.
_VALUES = {"datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta"}


def check_model_name(path: str) -> None:
    """Raise FileError if the end of a name is not that of a model file."""
    if pathlib.Path(path).suffix.lower() not in (".skops", *_PICKLES):
        raise FileError(
            f"A model is saved to a file whose name ends in .skops or .joblib, got {path!r}."
        )


def save_model(model: Any, path: str) -> None:
    """Save a model with skops or joblib, by the end of the name."""
    check_model_name(path)
    with replacing(path) as name:
        if not path.lower().endswith(".skops"):
            import joblib

            joblib.dump(model, name, compress=3)
            return
        import skops.io

        try:
            skops.io.dump(model, name)
            _check_same(model, _load_skops(name))
        except Exception as error:
            raise FileError(
                f"skops cannot hold a model of this table ({type(error).__name__}: {error}). Save "
                "it to a file whose name ends in .joblib."
            ) from error


def _check_same(model: Any, loaded: Any) -> None:
    """Raise ValueError if a model is not what was saved: skops 0.11 makes midnight of all times."""
    for one, other in zip(model.encoder_.codecs_, loaded.encoder_.codecs_, strict=True):
        categories = [list(getattr(c, "categories_", [])) for c in (one, other)]
        if categories[0] != categories[1]:
            raise ValueError("categories come back as others")
    if not model.sample(20, random_state=0).equals(loaded.sample(20, random_state=0)):
        raise ValueError("it draws other rows")


def load_model(path: str, tell: Callable[[str], None]) -> Any:
    """Load a model; `tell` gets what the user must know about the file."""
    check_model_name(path)
    if path.lower().endswith(".skops"):
        return _load_skops(path)
    import joblib

    tell(
        f"{path} is a pickle, which can run any code as it is loaded: use only files that you "
        "trust (a .skops file runs none)."
    )
    try:
        return joblib.load(path)
    except OSError:
        raise
    except Exception as error:  # whatever a pickle of anything else may raise
        raise FileError(f"{pathlib.Path(path).name} is not a model: {_words(error)}") from error


def _words(error: Exception) -> str:
    return f"loading it raised {type(error).__name__}."


def _load_skops(path: str) -> Any:
    import skops.io

    try:
        unknown = skops.io.get_untrusted_types(file=path)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise FileError(f"{pathlib.Path(path).name} is not a model: {_words(error)}") from error
    foreign = [name for name in unknown if not name.startswith("sktvae.") and name not in _VALUES]
    if foreign:
        raise FileError(
            f"{pathlib.Path(path).name} is not loaded: it asks to run code that is not of sktvae, "
            f"{', '.join(foreign)}."
        )
    return skops.io.load(path, trusted=unknown)
