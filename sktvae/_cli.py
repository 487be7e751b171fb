"""The command line: `sktvae fit`, `sample`, `impute`, `evaluate`, `info` and `demo`."""

from __future__ import annotations

import ast
import functools
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click

from sktvae._version import __version__

# A sample is drawn and written in blocks of so many rows.
BLOCK = 100_000
_INTERRUPTED, _BROKEN_PIPE = 130, 141  # 128 + the number of the signal, as shells do
_TABLE = click.Path(dir_okay=False, allow_dash=True)
_FILE = click.Path(dir_okay=False)


def tell(message: str) -> None:
    """Write a line for the user to standard error."""
    click.echo(" ".join(message.split()), err=True)


class _Program(click.Group):
    """A group of commands whose errors are one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = {"debug": False}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # Nobody reads on; Python must not try to write the rest when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_BROKEN_PIPE)
        except KeyboardInterrupt:
            tell("Interrupted.")
            ctx.exit(_INTERRUPTED)
        except Exception as error:
            if ctx.obj["debug"]:
                raise
            tell(f"Error: {_in_words(error)} (--debug shows where)")
            ctx.exit(1)


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'file'}: {error.strerror}."
    return str(error) or type(error).__name__


def _show_warning(message: Any, category: Any, *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        tell(f"Warning: {message}")


def _debug(function: Callable) -> Callable:
    def note(ctx: click.Context, _: Any, value: bool) -> None:
        ctx.find_root().obj["debug"] |= value

    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=note, help="Show tracebacks."
    )(function)


def _csv_options(function: Callable) -> Callable:
    """Add the options of CSV files, which the command gets as `csv`."""

    @functools.wraps(function)
    def command(*args: Any, sep: Any, decimal: str, missing: Any, times: Any, **rest: Any) -> Any:
        from sktvae._files import MISSING, CsvOptions

        csv = CsvOptions(sep, decimal, missing or MISSING, times)
        return function(*args, csv=csv, **rest)

    for option in (
        click.option(
            "times",
            "--date-format",
            multiple=True,
            help="Another format of dates, such as %d/%m/%Y. Repeatable.",
        ),
        click.option(
            "--missing",
            multiple=True,
            help="A cell that means a missing value. Repeatable; replaces the list of defaults.",
        ),
        click.option("--decimal", default=".", help="The decimal point.", show_default=True),
        click.option("--sep", help="The character between cells; else it is guessed."),
    ):
        command = option(command)
    return command


_seed = click.option("--seed", type=click.IntRange(0), help="For the same result every time.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="sktvae %(version)s")
def cli() -> None:
    """Learn the joint distribution of a table, and draw new rows from it.

    \b
    sktvae fit data.csv -o model.skops
    sktvae sample model.skops -n 1000 -o rows.csv
    sktvae evaluate data.csv rows.csv --html report.html

    Tables are CSV (also .csv.gz), Parquet or Arrow (.arrow, .feather) by the end of their names;
    - is CSV on standard input or output. Messages go to standard error.

    A CSV file has the names of its columns in the first line, and is UTF-8. Cells are recognised
    column by column: numbers; dates and times (2024-12-31, 2024/12/31, 31.12.2024, with or
    without a time of day; others with --date-format); else text. Numbers with leading zeros
    (01234), a plus sign or more than 15 digits stay text. Empty cells, NA, N/A, NaN, NULL and <NA>
    are missing values. Samples are written as the data were: the same separator, decimals, format
    of dates and marker of missing values.

    A model is saved to a .skops file, which runs no code when it is loaded (recommended), or to a
    .joblib file, which is a pickle: use only those that you trust.

    Exit codes: 0, 1 for an error, 2 for wrong usage, 130 if interrupted.
    """


# fit


@cli.command()
@click.argument("data", type=click.Path(allow_dash=True))
@click.option("-o", "--output", type=_FILE, required=True, help="model.skops or model.joblib.")
@click.option("--epochs", type=click.IntRange(1), help="The most passes over the rows.")
@click.option(
    "settings", "--set", multiple=True, metavar="NAME=VALUE",
    help="Another parameter of TVAESynthesizer, such as batch_size=128. Repeatable.",
)  # fmt: skip
@click.option("--categorical", multiple=True, help="A column of numbers that are categories.")
@click.option("--drop", multiple=True, help="A column to leave out.")
@click.option(
    "relations", "--relation", multiple=True,
    help="What holds in every row, such as \"LessEqual('begin', 'end')\". Repeatable.",
)  # fmt: skip
@click.option(
    "--epsilon", type=click.FloatRange(min=0, min_open=True),
    help="Fit with differential privacy, of this privacy loss.",
)  # fmt: skip
@_seed
@_quiet
@_csv_options
@_debug
def fit(data: str, output: str, csv: Any, **options: Any) -> None:
    """Fit a model to the table DATA, and save it.

    Relations that hold in every row of the table are suggested, and never applied unasked.

    DATA may also be a folder of Parquet files. It is read piece by piece, as is a Parquet file of
    more than 1 GB, so that it can be larger than memory: with --set cache=FOLDER for a temporary
    file, without suggestions, and not with --epsilon.
    """
    from sktvae._files import check_folder, check_model_name, save_model

    check_model_name(output)
    check_folder(output)  # before the fit, which may take long
    parameters = _parameters(options)
    X, names, written = _rows_to_fit(data, csv, options["drop"])
    _known(options["categorical"], names, "--categorical")
    model = _synthesizer(parameters, list(options["categorical"]), options["relations"])
    interrupted = _fit(model, X, options["quiet"])
    is_private, is_frame = model.privacy is not None, hasattr(X, "columns")
    n_rows = len(X) if is_frame else X.count_rows()
    told = "not told, by a private model" if is_private else n_rows
    model.source_ = {"version": __version__, "n_rows": told, "csv": written}
    save_model(model, output)
    if is_frame and not options["relations"] and not is_private:
        _suggest(X)
    if not options["quiet"]:
        tell(f"Saved a model of {n_rows:,} rows and {len(names)} columns to {output}.")
    if interrupted:
        click.get_current_context().exit(_INTERRUPTED)


def _rows_to_fit(data: str, csv: Any, dropped: tuple) -> tuple[Any, list[str], dict | None]:
    """Return a table, or pieces of one; its columns; and how it was written, if it is CSV."""
    from sktvae._files import is_large, only_columns, parquet_dataset, read_table

    if is_large(data):
        dataset = parquet_dataset(data)
        _known(dropped, dataset.schema.names, "--drop")
        names = [name for name in dataset.schema.names if name not in dropped]
        return only_columns(dataset, names), names, None
    table = read_table(data, csv)
    X = table.frame.drop(columns=_known(dropped, table.frame, "--drop"))
    written = table.csv.as_dict() if table.text is not None else None
    return X, list(X), written


def _parameters(options: dict) -> dict:
    """Return the parameters of the synthesizer that options give."""
    parameters: dict = {}
    for setting in options["settings"]:
        name, sign, value = setting.partition("=")
        if not sign:
            raise click.BadParameter(f"{setting!r} is not NAME=VALUE.", param_hint="--set")
        try:
            parameters[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parameters[name] = value
    if options["epochs"] is not None:
        parameters["epochs"] = options["epochs"]
    if options["seed"] is not None:
        parameters["random_state"] = options["seed"]
    if options["epsilon"] is not None:
        from sktvae import DifferentialPrivacy

        parameters["privacy"] = DifferentialPrivacy(options["epsilon"])
    return parameters


def _synthesizer(parameters: dict, categorical: list, relations: tuple) -> Any:
    from sktvae import TableEncoder, TVAESynthesizer

    known = TVAESynthesizer().get_params(deep=False)
    for name in parameters:
        if name not in known or name in ("encoder", "warm_start"):
            raise click.BadParameter(
                f"TVAESynthesizer has no parameter {name!r} that can be set here.",
                param_hint="--set",
            )
    if categorical:
        parameters["categorical_features"] = categorical
    if relations:
        of_encoder = ("numerical", "categorical_features", "min_samples")
        own = {name: parameters.pop(name) for name in of_encoder if name in parameters}
        held = [_relation(text) for text in relations]
        parameters["encoder"] = TableEncoder(relations=held, **own)
    return TVAESynthesizer(**parameters)


def _relation(text: str) -> Any:
    """Return a relation from its code; nothing but a call with literals is understood."""
    from sktvae import FixedCombinations, LessEqual, SumOf

    known = {kind.__name__: kind for kind in (LessEqual, FixedCombinations, SumOf)}
    try:
        call = ast.parse(text.strip(), mode="eval").body
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        assert call.func.id in known
        arguments = [ast.literal_eval(value) for value in call.args]
        named = {str(key.arg): ast.literal_eval(key.value) for key in call.keywords}
        return known[call.func.id](*arguments, **named)
    except (AssertionError, SyntaxError, TypeError, ValueError) as error:
        raise click.BadParameter(
            f"{text!r} is not one of {', '.join(known)} with names of columns, such as "
            "\"LessEqual('begin', 'end')\".",
            param_hint="--relation",
        ) from error


def _known(names: Any, X: Any, option: str) -> list[str]:
    for name in names:
        if name not in X:
            raise click.BadParameter(
                f"{name!r} is not a column of the table: {', '.join(map(repr, X))}.",
                param_hint=option,
            )
    return list(names)


def _fit(model: Any, X: Any, quiet: bool) -> bool:
    """Fit a model; return whether this was interrupted, so that it is less than it could be."""
    model.set_params(verbose=not quiet and sys.stderr.isatty())
    interrupted = False

    def show(message: Any, category: Any, *_: Any, **__: Any) -> None:
        nonlocal interrupted
        interrupted |= "interrupted" in str(message)
        if "is nowhere later than" not in str(message):  # it is among the suggestions
            _show_warning(message, category)

    with warnings.catch_warnings():
        warnings.showwarning = show
        model.fit(X)
    model.set_params(verbose=False)
    return interrupted


def _suggest(X: Any) -> None:
    from sktvae import suggest_relations

    for relation in suggest_relations(X):
        tell(f'This holds in every row: --relation "{relation}" makes it hold in samples.')


# sample


@cli.command()
@click.argument("model", type=_FILE)
@click.option("-n", "n_rows", type=click.IntRange(0), required=True, help="The number of rows.")
@click.option("-o", "--output", type=_TABLE, default="-", help="A table; else standard output.")
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE",
    help="What is known of the rows: a value, a range a..b, a list a|b|c. Repeatable.",
)  # fmt: skip
@_seed
@_debug
def sample(model: str, n_rows: int, output: str, where: tuple, seed: int | None) -> None:
    """Draw rows from the model in the file MODEL.

    Values in --where are read as those of the column. A range of numbers or dates holds both ends:
    --where age=30..50. One value of a list holds: --where "country=France|Italy". A value in
    double quotes is taken as it stands, and no value means that it is missing: --where age=
    """
    from sktvae._files import kind_of_file, write_table
    from sktvae._where import WhereError, conditions_of

    kind_of_file(output)
    synthesizer = _load(model)
    form = _csv_format(synthesizer)
    try:
        conditions = conditions_of(synthesizer, where, form)
    except WhereError as error:
        raise click.BadParameter(str(error), param_hint="--where") from error
    blocks = synthesizer.sample_batches(
        n_rows, batch_size=BLOCK, conditions=conditions or None, random_state=seed
    )
    write_table(map(_as_pandas, blocks), output, form)


def _load(path: str) -> Any:
    from sktvae import TVAESynthesizer
    from sktvae._files import FileError, load_model

    model = load_model(path, tell)
    if not isinstance(model, TVAESynthesizer) or not hasattr(model, "encoder_"):
        raise FileError(f"{path} does not hold a fitted TVAESynthesizer: {type(model).__name__}.")
    return model


def _csv_format(model: Any) -> Any:
    from sktvae._files import CsvFormat

    known = (getattr(model, "source_", None) or {}).get("csv")
    if known is not None:
        return CsvFormat(**known)
    words = {"number": "number", "datetime": "time", "timedelta": "duration"}
    columns = {
        str(c.name): "integer" if getattr(c, "whole", False) else words.get(c.kind, "text")
        for c in model.encoder_.schema_.columns
    }
    return CsvFormat(columns=columns)


def _as_pandas(table: Any) -> Any:
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return table
    if not hasattr(table, "to_pandas"):
        return pd.DataFrame(table)
    # Integers with missing values would otherwise become floats.
    kinds = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
    nullable = {kind.lower(): pd.api.types.pandas_dtype(kind) for kind in kinds}
    return table.to_pandas(types_mapper=lambda kind: nullable.get(str(kind)))


# impute


@cli.command()
@click.argument("model", type=_FILE)
@click.argument("data", type=_TABLE)
@click.option("-o", "--output", type=_TABLE, default="-", help="A table; else standard output.")
@click.option(
    "--strategy", type=click.Choice(["draw", "mean", "median"]), default="draw",
    show_default=True, help="Draw each cell, or take its conditional mean or median.",
)  # fmt: skip
@_seed
@_csv_options
@_debug
def impute(model: str, data: str, output: str, csv: Any, **options: Any) -> None:
    """Fill the missing cells of the table DATA, given the other cells of their rows.

    The model in the file MODEL knows the columns. Cells that are known, and columns that the model
    does not know, stay as they are.
    """
    from sktvae._files import as_text, kind_of_file, matched, read_table, write_table
    from sktvae._where import categories_of

    kind_of_file(output)
    synthesizer = _load(model)
    form = _csv_format(synthesizer)
    table = read_table(data, csv, form.columns)
    names = [name for name in synthesizer.encoder_.schema_.names if name in table.frame]
    X = table.frame[names].copy()
    if table.text is not None:
        for i, column in enumerate(synthesizer.encoder_.schema_.columns):
            if column.name in X and column.kind == "category":
                known = categories_of(synthesizer, i)
                X[column.name] = matched(X[column.name], known)
    filled = synthesizer.impute(X, strategy=options["strategy"], random_state=options["seed"])
    out = table.frame.copy()
    out[names] = filled
    if table.text is not None and kind_of_file(output) == "csv":
        assert table.absent is not None
        form.sep, form.decimal, form.missing = table.csv.sep, table.csv.decimal, table.csv.missing
        cells = as_text(out, form).astype(object)
        out = table.text.astype(object).where(~table.absent, cells)
    write_table([out], output, form)


# evaluate


@cli.command()
@click.argument("real", type=_TABLE)
@click.argument("synthetic", type=_TABLE)
@click.option("--holdout", type=_TABLE, help="Real rows that the model has not seen.")
@click.option("--target", help="A column that a model of the rows would predict.")
@click.option("--html", type=_FILE, help="Write a report that a browser shows.")
@click.option("as_json", "--json", is_flag=True, help="Print the figures as JSON.")
@_seed
@_quiet
@_csv_options
@_debug
def evaluate(real: str, synthetic: str, csv: Any, **options: Any) -> None:
    """Compare the table SYNTHETIC with the table REAL, and print how alike they are.

    With --holdout, it is also seen whether rows of REAL were copied or can be recognised.
    """
    from sktvae._files import read_table

    if options["html"] and not options["html"].lower().endswith((".html", ".htm")):
        raise click.BadParameter(f"{options['html']!r} must end in .html.", param_hint="--html")
    first = read_table(real, csv)
    second = _read_like(synthetic, csv, first)
    third = _read_like(options["holdout"], csv, first) if options["holdout"] else None
    target, seed = options["target"], options["seed"]
    if target is not None:
        _known([target], first.frame, "--target")
    if options["html"]:
        _report(options, first.frame, second, third)
        return
    from sktvae.metrics import evaluate as compare

    figures = compare(first.frame, second, third, target=target, random_state=seed)
    figures["message"] = figures["message"].str.replace("pass X_holdout", "give --holdout")
    if options["as_json"]:
        click.echo(figures.reset_index().to_json(orient="records", indent=2))
    else:
        _print_figures(figures)


def _read_like(path: str, csv: Any, first: Any) -> Any:
    """Return a table, whose cells are read as those of the first one."""
    from sktvae._files import matched, read_table

    table = read_table(path, csv, first.csv.columns)
    for name in table.frame:
        if table.text is not None and first.csv.columns.get(name) == "text":
            known = first.frame[name].dropna().unique()
            table.frame[name] = matched(table.frame[name], known)
    return table.frame


def _report(options: dict, real: Any, synthetic: Any, holdout: Any) -> None:
    from sktvae._files import replacing
    from sktvae.inspection import report

    page = report(
        real,
        synthetic,
        holdout,
        target=options["target"],
        random_state=options["seed"],
        progress=not options["quiet"] and sys.stderr.isatty(),
    )
    with replacing(options["html"]) as name:
        page.to_html(name)
    if options["as_json"]:
        text = page.to_json()
        click.echo(text if isinstance(text, str) else json.dumps(text, indent=2))
    elif not options["quiet"]:
        tell(f"Wrote {options['html']}.")


def _print_figures(figures: Any) -> None:
    for name, row in figures.iterrows():
        click.echo(f"{name}: {row['value']:.4g} [{row['verdict']}]")
        click.echo(f"    {row['message']}")


# info and demo


@cli.command()
@click.argument("model", type=_FILE)
@click.option("as_json", "--json", is_flag=True, help="Print it as JSON.")
@_debug
def info(model: str, as_json: bool) -> None:
    """Say what the file MODEL holds."""
    synthesizer = _load(model)
    about = _about(synthesizer)
    if as_json:
        click.echo(json.dumps(about, indent=2))
        return
    for name in ("saved_by", "rows", "epochs", "conditions"):
        click.echo(f"{name.replace('_', ' ')}: {about[name]}")
    changed = ", ".join(f"{name}={value}" for name, value in about["parameters"].items())
    click.echo(f"parameters that are not the defaults: {changed or 'none'}")
    for relation in about["relations"]:
        click.echo(f"relation: {relation}")
    click.echo()
    click.echo(synthesizer.encoder_.columns_.to_string(max_colwidth=40))
    click.echo()
    if hasattr(synthesizer, "epsilon_"):
        click.echo(
            f"The fit was differentially private: epsilon {synthesizer.epsilon_:.3g}, "
            f"delta {synthesizer.delta_:.2g}."
        )
        return
    least = synthesizer.encoder_.min_samples
    click.echo(
        f"The file holds the weights of the networks and, of each column, categories and bounds of "
        f"bins that rest on {least} or more rows. It holds no rows, but it may have memorised some."
    )


def _about(model: Any) -> dict:
    """Return what is known of a model in plain values."""
    source = getattr(model, "source_", None) or {}
    defaults = type(model)().get_params(deep=False)
    parameters = {
        name: repr(value)
        for name, value in model.get_params(deep=False).items()
        if repr(value) != repr(defaults[name])
    }
    columns = model.encoder_.columns_.reset_index().astype(str)
    return {
        "saved_by": f"sktvae {source.get('version', 'of an unknown version')}",
        "rows": source.get("n_rows", "unknown"),
        "epochs": model.n_iter_,
        "conditions": "yes" if getattr(model, "any_order_", None) is not None else "no",
        "parameters": parameters,
        "epsilon": getattr(model, "epsilon_", None),
        "delta": getattr(model, "delta_", None),
        "relations": [str(relation) for relation in model.encoder_.relations_],
        "columns": columns.to_dict(orient="records"),
    }


@cli.command()
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True)
@_seed
@_quiet
@_debug
def demo(epochs: int, seed: int | None, quiet: bool) -> None:
    """Fit a small generated table, and print rows drawn from the model; no file is written."""
    import numpy as np
    import pandas as pd

    from sktvae import TVAESynthesizer

    rng = np.random.default_rng(0)
    age = rng.integers(18, 90, 1000)
    real = pd.DataFrame(
        {
            "age": age,
            "income": np.round(rng.lognormal(7 + age / 60, 0.3), 2),
            "city": rng.choice(["Bonn", "Oslo", "Rome"], 1000, p=[0.5, 0.3, 0.2]),
            "retired": age + rng.normal(0, 4, 1000) > 65,
        }
    )
    model = TVAESynthesizer(epochs=epochs, random_state=0 if seed is None else seed)
    _fit(model, real, quiet)
    click.echo("Rows of a table that was generated:")
    click.echo(real.head(5).to_string(index=False))
    click.echo("\nNew rows:")
    click.echo(model.sample(5).to_string(index=False))
    click.echo("\nNew rows of people in Rome who are 30 to 40 years old:")
    known = {"city": "Rome", "age": pd.Interval(30, 40, closed="both")}
    click.echo(model.sample(5, conditions=known).to_string(index=False))
    rows = model.sample(1000)
    click.echo("\nMeans, and the share of retired people above 70, of real and of new rows:")
    for name, one in (("real", real), ("new", rows)):
        old = one.loc[one["age"] > 70, "retired"].mean()
        means = one[["age", "income"]].mean()
        click.echo(f"  {name:5}age {means['age']:.1f}, income {means['income']:.0f}, {old:.2f}")
