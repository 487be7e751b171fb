"""The command line, most of it in this process and some of it in a real one."""

import datetime as dt
import gzip
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import skops.io
from click.testing import CliRunner

import sktvae
from sktvae import TVAESynthesizer
from sktvae._cli import BLOCK, cli
from sktvae._files import (
    CsvFormat,
    CsvOptions,
    FileError,
    load_model,
    read_table,
    save_model,
    write_table,
)

QUICK = ["--epochs", "1", "--seed", "0", "-q", "--set", "compress_dims=(8,)"]
QUICK += ["--set", "calibrate=False", "--set", "refit=False"]
ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments, code=0, stdin=None):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def start(*arguments, **how):
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sktvae", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **how,
    )


def stays(n=200):
    rng = np.random.default_rng(0)
    came = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, n), "D")
    left = came + pd.to_timedelta(rng.integers(0, 30, n), "D")
    X = pd.DataFrame(
        {
            "age": pd.array(rng.integers(18, 90, n), dtype="Int64"),
            "zip": rng.choice(["01234", "20095", "50667"], n),
            "came": came.strftime("%d.%m.%Y"),
            "left": left.strftime("%d.%m.%Y"),
            "seen": (came + pd.Timedelta("9h30min")).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "bill": [f"{v:.2f}" for v in rng.gamma(3, 100, n)],
            "member": rng.choice(["true", "false"], n),
            "a=b": rng.choice(["x|y", ">50K"], n),
        }
    )
    X.loc[rng.random(n) < 0.2, ["age", "zip"]] = None
    return X


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data.csv, and model.skops, which was fitted to it."""
    folder = tmp_path_factory.mktemp("cli")
    stays().to_csv(folder / "data.csv", index=False, sep=";", na_rep="NA")
    run("fit", folder / "data.csv", "-o", folder / "model.skops", *QUICK)
    return folder


def sampled(folder, *arguments, **how):
    text = run("sample", folder / "model.skops", *arguments, **how).stdout
    path = folder / "sampled.csv"
    path.write_text(text)
    return pd.read_csv(path, sep=";", dtype=str, keep_default_na=False)


# Help and errors


def test_help_names_every_command_and_does_not_import_torch():
    code = "import sys; from sktvae._cli import cli; cli(['--help'], standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("fit", "sample", "impute", "evaluate", "info", "demo"):
        assert f"\n  {command} " in done.stdout
        assert run(command, "--help").stdout.startswith("Usage: ")


def test_public_names_are_found_when_they_are_used():
    for name in sktvae.__all__:
        assert getattr(sktvae, name) is not None
    assert set(sktvae.__all__) <= set(dir(sktvae))
    with pytest.raises(AttributeError, match="'sktvae' has no attribute 'Nothing'"):
        sktvae.Nothing  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "MODEL", "-n", "-1"], "-1"),
        (["sample", "MODEL"], "'-n'"),
        (["sample", "MODEL", "-n", "1", "--where", "weight=3"], "no column 'weight', only 'age'"),
        (["sample", "MODEL", "-n", "1", "--where", "age"], "no '='"),
        (["sample", "MODEL", "-n", "1", "--where", "age=old"], "'old' is not a number"),
        (["sample", "MODEL", "-n", "1", "--where", "age=50..30"], "empty"),
        (["sample", "MODEL", "-n", "1", "--where", "age=30.."], "two ends"),
        (["sample", "MODEL", "-n", "1", "--where", "came=soon"], "'soon' is not a datetime"),
        (["sample", "MODEL", "-n", "1", "--where", "age=3", "--where", "age=4"], "twice"),
        (["fit", "DATA", "-o", "new.skops", "--set", "depth=3"], "no parameter 'depth'"),
        (["fit", "DATA", "-o", "new.skops", "--set", "depth"], "NAME=VALUE"),
        (["fit", "DATA", "-o", "new.skops", "--drop", "weight"], "'weight' is not a column"),
        (["fit", "DATA", "-o", "new.skops", "--relation", "print('x')"], "LessEqual"),
        (["fit", "DATA", "-o", "new.skops", "--relation", "SumOf(__name__)"], "LessEqual"),
        (["evaluate", "DATA", "DATA", "--target", "weight"], "'weight' is not a column"),
        (["nothing"], "nothing"),
    ],
)
def test_wrong_usage(folder, arguments, says):
    names = {"MODEL": folder / "model.skops", "DATA": folder / "data.csv"}
    result = run(*(names.get(a, a) for a in arguments), code=2)
    assert says in " ".join(result.stderr.split())
    assert "Usage: " in result.stderr and not result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "none.skops", "-n", "1"], "none.skops: No such file or directory."),
        (["sample", "DATA", "-n", "1"], "ends in .skops or .joblib"),
        (["sample", "MODEL", "-n", "1", "-o", "rows.xls"], "'rows.xls' does not say what kind"),
        (["sample", "MODEL", "-n", "1", "--where", "zip=Rome"], "'Rome' is not among"),
        (["sample", "MODEL", "-n", "1", "-o", "none/rows.csv"], "There is no folder 'none'"),
        (["fit", "none.csv", "-o", "new.skops"], "none.csv: No such file or directory."),
        (["fit", "DATA", "-o", "new.model"], "ends in .skops or .joblib"),
        (["fit", "DATA", "-o", "new.skops", "--epochs", "1", "--set", "tol=-1"], "'tol'"),
    ],
)
def test_errors_are_one_line(folder, arguments, says):
    names = {"MODEL": folder / "model.skops", "DATA": folder / "data.csv"}
    arguments = [names.get(a, a) for a in arguments]
    result = run(*arguments, code=1)
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("Warning")]
    assert line.startswith("Error: ") and says in line
    assert result.stdout == ""
    assert CliRunner().invoke(cli, [*map(str, arguments), "--debug"]).exc_info[0] is not SystemExit


def test_without_click_the_extra_is_named(tmp_path):
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('gone', name='click')")
    done = subprocess.run(
        [sys.executable, "-m", "sktvae"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and 'pip install "sktvae[cli]"' in done.stderr


# What a CSV file holds


def read(tmp_path, text, **options):
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(str(path), CsvOptions(**options))


@pytest.mark.parametrize(
    ("cells", "dtype", "how"),
    [
        (["1", "20", "-3"], "int64", "integer"),
        (["1", "", "3"], "Int64", "integer"),
        (["1.5", "2", "1e3"], "float64", "number"),
        (["1.50", "20.25", "NA"], "float64", "%.2f"),
        (["01234", "20095", "50667"], "str", "text"),
        (["+49", "+31", "+1"], "str", "text"),
        (["1234567890123456", "1", "2"], "str", "text"),
        (["inf", "1", "2"], "str", "text"),
        (["true", "false", "true"], "str", "text"),
        (["2024-02-01", "2024-12-31", "null"], "datetime64", "%Y-%m-%d"),
        (["31.12.2024", "01.02.2024", ""], "datetime64", "%d.%m.%Y"),
        (["2024-02-01T10:00:00Z", "2024-02-01T10:00:01Z", ""], "datetime64", "%Y-%m-%dT%H:%M:%SZ"),
        (["01/02/2024", "03/04/2024", "05/06/2024"], "str", "text"),
        (["2024-02-01", "soon", "2024-02-02"], "str", "text"),
        (["NA", "", "null"], "float64", "number"),
    ],
)
def test_what_a_column_holds(tmp_path, cells, dtype, how):
    table = read(tmp_path, "x,y\n" + "".join(f"{cell},1\n" for cell in cells))
    column = table.frame["x"]
    is_text = dtype == "str"
    assert str(column.dtype).startswith(("str", "object") if is_text else dtype)
    assert table.csv.columns["x"] == how
    missing = [cell in ("", "NA", "null") for cell in cells]
    assert column.isna().tolist() == missing
    if is_text:
        assert column.tolist() == cells


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_the_separator_is_guessed(tmp_path, sep):
    table = read(tmp_path, f'"a,,;;\t\t||b"{sep}c\n1{sep}"x, y; z"\n')
    assert table.csv.sep == sep
    assert table.frame.loc[0].tolist() == [1, "x, y; z"]


def test_options_of_csv(tmp_path):
    text = "a;b;c\n1,50;?;01/02/2024\n2,25;NA;31/12/2024\n"
    table = read(tmp_path, text, decimal=",", missing=("?",), time_formats=("%d/%m/%Y",))
    assert table.frame["a"].tolist() == [1.5, 2.25]
    assert table.frame["b"].isna().tolist() == [True, False]
    assert table.frame["c"].tolist() == [pd.Timestamp("2024-02-01"), pd.Timestamp("2024-12-31")]
    write_table([table.frame], str(tmp_path / "again.csv"), table.csv)
    assert (tmp_path / "again.csv").read_text() == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n1,2,3\n", "not a CSV file with ','"),
        ("a,b\n1,2,3\n1,2,3\n", "not a CSV file with ','"),
        ("a\nM\xfcnchen\n".encode("latin1"), "not UTF-8"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, says):
    with pytest.raises(FileError, match=says):
        read(tmp_path, text)


def test_tabs_by_the_name_of_the_file(tmp_path):
    write_table([pd.DataFrame({"a": [1], "b": ["x"]})], str(tmp_path / "t.tsv"), CsvFormat())
    assert (tmp_path / "t.tsv").read_text() == "a\tb\n1\tx\n"


def test_a_failed_run_leaves_no_half_file(tmp_path):
    def blocks():
        yield pd.DataFrame({"a": [1]})
        raise ValueError("no more")

    for name in ("rows.csv", "rows.csv.gz", "rows.parquet"):
        path = tmp_path / name
        path.write_text("what was there")
        with pytest.raises(ValueError, match="no more"):
            write_table(blocks(), str(path), CsvFormat())
        assert path.read_text() == "what was there"
    assert len(list(tmp_path.iterdir())) == 3


# Fit and sample


def test_samples_are_written_as_the_data_were(folder):
    rows = sampled(folder, "-n", 300)
    assert list(rows) == list(stays())
    present = {name: rows.loc[rows[name] != "NA", name] for name in rows}
    assert 0 < len(present["age"]) < 300
    patterns = {
        "age": r"[1-9]\d",
        "zip": r"\d{5}",
        "came": r"\d\d\.\d\d\.20\d\d",
        "seen": r"20\d\d-\d\d-\d\dT\d\d:\d\d:00Z",
        "bill": r"\d+\.\d\d",
        "member": "true|false",
        "a=b": r"x\|y|>50K",
    }
    for name, pattern in patterns.items():
        assert present[name].str.fullmatch(pattern).all(), name
    assert (present["zip"] == "01234").any()


def test_a_seed_repeats_the_sample(folder):
    one, same, other = (run("sample", folder / "model.skops", "-n", 20, "--seed", s).stdout
                        for s in (1, 1, 2))  # fmt: skip
    assert one == same != other


def test_conditions(folder):
    rows = sampled(
        *(folder, "-n", 60, "--where", "age=30..50", "--where", "zip=01234|20095"),
        *("--where", "came=01.03.2024..2024-04-05", "--where", "a=b=>50K"),
    )
    assert rows["age"].astype(int).between(30, 50).all()
    assert set(rows["zip"]) == {"01234", "20095"} and set(rows["a=b"]) == {">50K"}
    came = pd.to_datetime(rows["came"], format="%d.%m.%Y")
    assert came.between("2024-03-01", "2024-04-05").all()
    assert set(sampled(folder, "-n", 5, "--where", 'a=b="x|y"')["a=b"]) == {"x|y"}
    assert set(sampled(folder, "-n", 30, "--where", 'a=b="x|y"|">50K"')["a=b"]) == {"x|y", ">50K"}
    assert set(sampled(folder, "-n", 5, "--where", "age=")["age"]) == {"NA"}
    assert set(sampled(folder, "-n", 9, "--where", "age=33|40..41")["age"]) <= {"33", "40", "41"}


def test_large_samples_are_written_in_blocks(folder, monkeypatch):
    monkeypatch.setattr("sktvae._cli.BLOCK", 40)
    assert BLOCK == 100_000
    rows = sampled(folder, "-n", 100, "--seed", 0)
    assert len(rows) == 100 and not (rows == list(rows)).all(axis=1).any()
    assert not rows.iloc[:40].reset_index(drop=True).equals(rows.iloc[40:80].reset_index(drop=True))
    assert len(sampled(folder, "-n", 0)) == 0


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.parquet", "rows.feather"])
def test_formats_of_files(folder, tmp_path, name):
    path = tmp_path / name
    result = run("sample", folder / "model.skops", "-n", 30, "-o", path)
    assert result.stdout == ""
    if name.endswith("gz"):
        assert gzip.decompress(path.read_bytes()).startswith(b"age;zip")
    frame = read_table(str(path)).frame
    assert frame.shape == (30, 8) and frame["zip"].dropna().str.len().eq(5).all()
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_options_of_fit(folder, tmp_path):
    path = tmp_path / "model.joblib"
    run(
        *("fit", folder / "data.csv", "-o", path, *QUICK, "--categorical", "age"),
        *("--drop", "seen", "--set", "min_samples=1", "--set", "conditional=False"),
        *("--relation", "LessEqual('came', 'left')", "--set", "decoder=independent"),
    )
    result = run("info", path, "--json")
    assert "is a pickle" in result.stderr and result.stderr.count("\n") == 1
    about = json.loads(result.stdout)
    assert about["rows"] == 200 and about["epochs"] == 1 and about["conditions"] == "no"
    assert about["saved_by"] == f"sktvae {sktvae.__version__}"
    assert about["relations"] == ["LessEqual('came', 'left')"]
    assert about["parameters"]["decoder"] == "'independent'"
    codecs = {column["column"]: column["codec"] for column in about["columns"]}
    assert codecs["age"] == "CategoryCodec" and "seen" not in codecs
    rows = tmp_path / "rows.csv"
    run("sample", path, "-n", 100, "-o", rows)
    frame = read_table(str(rows)).frame
    assert (frame["came"] <= frame["left"]).all()
    assert "came" in run("info", path).stdout


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_folder_of_parquet_files_and_a_large_one_are_read_in_pieces(
    is_folder, tmp_path, monkeypatch
):
    from sktvae import _files

    X = stays().drop(columns=["left"]).assign(row=range(200))
    (tmp_path / "months").mkdir()
    for name, part in (("1", X[:120]), ("2", X[120:])):
        part.to_parquet(tmp_path / "months" / f"{name}.parquet", index=False)
    X.to_parquet(tmp_path / "all.parquet", index=False)
    monkeypatch.setattr(_files, "_LARGE_FILE", 100)
    monkeypatch.setattr(_files, "read_table", None)  # never read at once
    data = tmp_path / ("months" if is_folder else "all.parquet")
    model, rows = tmp_path / "model.skops", tmp_path / "rows.parquet"
    options = ["--drop", "row", "--set", f"cache={tmp_path}"]
    told = run("fit", data, "-o", model, *QUICK[:4], *QUICK[5:], *options).stderr
    names = [name for name in X if name != "row"]
    assert f"Saved a model of 200 rows and {len(names)} columns" in told
    run("sample", model, "-n", 30, "-o", rows)
    made = pd.read_parquet(rows)
    assert len(made) == 30 and made.dtypes.equals(X[names].dtypes)
    refused = run("fit", data, "-o", model, "--drop", "nothing", code=2).stderr
    assert "'nothing' is not a column" in refused


def test_a_folder_without_parquet_files(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    refused = run("fit", tmp_path, "-o", tmp_path / "m.skops", code=1).stderr
    assert "could not be read as Parquet" in refused
    (tmp_path / "empty").mkdir()
    refused = run("fit", tmp_path / "empty", "-o", tmp_path / "m.skops", code=1).stderr
    assert "holds no Parquet files" in refused


def test_fit_suggests_relations_as_options(folder, tmp_path):
    model = tmp_path / "model.skops"
    result = run("fit", folder / "data.csv", "-o", model, *QUICK, "--drop", "seen")
    assert "--relation \"LessEqual('came', 'left')\"" in result.stderr
    assert "nowhere later" not in result.stderr and result.stdout == ""
    assert json.loads(run("info", model, "--json").stdout)["relations"] == []


def test_a_private_fit_does_not_tell_the_number_of_rows(tmp_path):
    table, model = tmp_path / "data.csv", tmp_path / "model.skops"
    stays(787)[["age", "member"]].to_csv(table, index=False)
    run("fit", table, "-o", model, *QUICK, "--epsilon", 4, "--set", "conditional=False")
    about = json.loads(run("info", model, "--json").stdout)
    assert 3.9 < about["epsilon"] <= 4.0 and 0 < about["delta"] < 0.01
    assert "787" not in str(about)
    told = f"differentially private: epsilon {about['epsilon']:.3g}, delta {about['delta']:.2g}."
    assert told in run("info", model).stdout
    rows = run("sample", model, "-n", 5).stdout.splitlines()
    assert len(rows) == 6 and rows[0] == "age,member"
    assert "epsilon" in run("fit", table, "-o", model, "--epsilon", 0, code=2).stderr


@pytest.mark.parametrize("name", ["fake.skops", "fake.joblib"])
def test_a_file_that_is_no_model_is_named(name, tmp_path):
    (tmp_path / name).write_text("a,b\n1,2\n")
    result = run("info", tmp_path / name, code=1)
    assert f"Error: {name} is not a model" in result.stderr


def test_a_report_is_html(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    table = tmp_path / "a.csv"
    result = run("evaluate", table, table, "--html", tmp_path / "report.pdf", code=2)
    assert "must end in .html" in result.stderr and not (tmp_path / "report.pdf").exists()


def test_a_skops_file_with_foreign_code_is_not_loaded(tmp_path):
    path = tmp_path / "model.skops"
    model = TVAESynthesizer()
    model.extra = pathlib.PurePosixPath("/")
    skops.io.dump(model, path)
    result = run("info", path, code=1)
    assert "model.skops is not loaded: it asks to run code" in result.stderr
    skops.io.dump({"a": 1}, path)
    assert "does not hold a fitted TVAESynthesizer: dict" in run("info", path, code=1).stderr


def mixed(n=120):
    """An Arrow table of every kind of column that a Parquet file usually has."""
    pa = pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    low, start = rng.integers(0, 9, n), dt.datetime(2024, 1, 1)
    high = low + rng.integers(0, 5, n)
    city = rng.choice(["Oslo", "Rome"], n)
    return pa.table(
        {
            "key": [f"K{i:04d}" for i in range(n)],
            "flag": pa.array([None, True, False] * (n // 3)),
            "date": [start.date() + dt.timedelta(int(i)) for i in rng.integers(0, 90, n)],
            "price": [Decimal(int(i)) / 100 for i in rng.integers(0, 9999, n)],
            "small": pa.array([None, 3, 5, 8] * (n // 4), pa.int16()),
            "kind": pa.array(rng.choice(["x", "y"], n)).dictionary_encode(),
            "stamp": pa.array(
                [start + dt.timedelta(hours=int(i)) for i in rng.integers(0, 99, n)],
                pa.timestamp("us", "Europe/Berlin"),
            ),
            "clock": [dt.time(i % 24) for i in range(n)],
            "lasted": [dt.timedelta(seconds=int(i)) for i in rng.integers(0, 99, n)],
            "bytes": [b"ab", b"c"] * (n // 2),
            "low": low,
            "high": high,
            "sum": low + high,
            "city": city,
            "land": ["N" if c == "Oslo" else "I" for c in city],
        }
    )


def test_skops_holds_every_kind_of_table(tmp_path):
    import pyarrow.parquet as pq

    noon = dt.time(12)
    saved = skops.io.dumps(noon)
    old = skops.io.loads(saved, trusted=["datetime.time"]) != noon
    table = mixed()
    if old:  # it is refused, see the next test
        table = table.drop_columns("clock")
    data, model, rows = (tmp_path / name for name in ("data.parquet", "m.skops", "rows.parquet"))
    pq.write_table(table, data)
    run(
        *("fit", data, "-o", model, *QUICK, "--relation", "LessEqual('low', 'high')"),
        *("--relation", "SumOf('sum', ['low', 'high'])"),
        *("--relation", "FixedCombinations(['city', 'land'])"),
    )
    known = ["flag=true", "city=Rome", "land=I", "date=2024-01-01..2024-02-01"]
    known += [] if old else ["clock=05:00:00"]
    known += ["stamp=2024-01-02..2024-01-03"]
    where = [word for condition in known for word in ("--where", condition)]
    run("sample", model, "-n", 50, "-o", rows, *where)
    made = pq.read_table(rows)
    for field in table.schema:  # a dictionary may have codes of another width
        same = made.schema.field(field.name).type == field.type
        assert same or str(field.type).startswith("dictionary"), field
    assert pd.read_parquet(rows)["kind"].isin(["x", "y"]).all()
    assert set(made["flag"].to_pylist()) == {True}
    if not old:
        assert {str(t) for t in made["clock"].to_pylist()} == {"05:00:00"}
    assert {str(t)[:10] for t in made["stamp"].to_pylist()} <= {"2024-01-02", "2024-01-03"}
    assert made["sum"].to_pylist() == [
        a + b for a, b in zip(made["low"].to_pylist(), made["high"].to_pylist(), strict=True)
    ]
    # What is written as CSV is read back as what the model knows.
    gaps = tmp_path / "gaps.csv"
    frame = made.slice(0, 5).to_pandas().astype(object)
    frame.loc[2, ["flag", "small", "kind"]] = None
    frame.to_csv(gaps, index=False)
    filled = pd.read_csv(tmp_path / _written(run("impute", model, gaps).stdout, tmp_path))
    assert filled[["flag", "kind", "small"]].notna().iloc[2].all()
    if not old:
        assert filled["clock"].tolist() == ["05:00:00"] * 5


def test_what_skops_does_not_hold_is_refused(tmp_path):
    """As are times of day in skops 0.11, all of which come back as midnight."""
    table = stays()[["age", "zip"]].to_csv(index=False)
    (tmp_path / "data.csv").write_text(table)
    run("fit", tmp_path / "data.csv", "-o", tmp_path / "m.joblib", *QUICK)
    model = load_model(str(tmp_path / "m.joblib"), str)
    model.encoder_.codecs_[1].categories_ = np.array([Decimal(1), Decimal(2)], dtype=object)
    with pytest.raises(FileError, match=r"skops cannot hold .* ends in \.joblib"):
        save_model(model, str(tmp_path / "m.skops"))
    assert not (tmp_path / "m.skops").exists()


def _written(text, folder):
    (folder / "written.csv").write_text(text)
    return "written.csv"


# Impute, evaluate, demo


def test_impute_fills_gaps_and_changes_no_other_cell(folder, tmp_path):
    gaps = stays()
    gaps["note"] = [None, "as it was"] * 100
    gaps.loc[0, ["bill", "came"]] = None
    gaps.to_csv(tmp_path / "gaps.csv", index=False, na_rep="null")
    run("impute", folder / "model.skops", tmp_path / "gaps.csv", "-o", tmp_path / "full.csv")
    before, after = (
        pd.read_csv(tmp_path / name, dtype=str, keep_default_na=False)
        for name in ("gaps.csv", "full.csv")
    )
    known = before != "null"
    assert before.where(known).equals(after.where(known))
    assert (after["note"] == before["note"]).all()
    assert not (after.drop(columns="note") == "null").any(axis=None)
    assert pd.Series(after.loc[0, ["came"]]).str.fullmatch(r"\d\d\.\d\d\.2024").all()


def test_evaluate(folder, tmp_path):
    run("sample", folder / "model.skops", "-n", 200, "-o", tmp_path / "rows.csv")
    both = folder / "data.csv", tmp_path / "rows.csv"
    shown = run("evaluate", *both, "--seed", 0).stdout
    figures = json.loads(run("evaluate", *both, "--seed", 0, "--json").stdout)
    for figure in figures:
        assert f"{figure['name']}: " in shown and figure["message"] in shown
    page = tmp_path / "report.html"
    result = run("evaluate", *both, "--html", page, "--seed", 0, "--json")
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    assert json.loads(result.stdout)


def test_evaluate_reads_both_tables_alike(tmp_path):
    """In the second table no zip code has a leading zero, and no number has decimals."""
    (tmp_path / "a.csv").write_text("zip,x\n" + "01234,1.5\n20095,2\n" * 50)
    (tmp_path / "b.csv").write_text("zip,x\n" + "20095,1\n50667,2\n" * 50)
    figures = json.loads(run("evaluate", tmp_path / "a.csv", tmp_path / "b.csv", "--json").stdout)
    assert figures
    (tmp_path / "b.csv").write_text("zip,x\n" + "20095,much\n50667,2\n" * 50)
    result = run("evaluate", tmp_path / "a.csv", tmp_path / "b.csv", code=1)
    assert "Column 'x' does not hold what it should" in result.stderr


def test_demo_needs_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run("demo", "--epochs", 1, "-q").stdout
    assert "New rows" in shown and "Rome" in shown
    assert not list(tmp_path.iterdir())


# Real processes


def test_pipes(folder, tmp_path):
    """CSV in on standard input, CSV out on standard output, messages on standard error."""
    model = tmp_path / "model.joblib"
    with open(folder / "data.csv", "rb") as data:
        fit = start("fit", "-", "-o", model, *QUICK[:4], *QUICK[5:], stdin=data)
        out, err = fit.communicate(timeout=120)
    assert fit.returncode == 0 and out == b"" and b"Saved a model of 200 rows" in err
    out, err = start("sample", model, "-n", 5).communicate(timeout=120)
    assert len(out.splitlines()) == 6 and out.startswith(b"age;zip;")
    assert err.count(b"\n") == 1 and b"is a pickle" in err


def test_a_broken_pipe_is_silent(folder):
    sample = start("sample", folder / "model.skops", "-n", 30_000)
    assert sample.stdout.readline().startswith(b"age;zip;")
    sample.stdout.close()
    assert sample.stderr.read() == b""
    assert sample.wait(timeout=120) == 141


@pytest.mark.slow
def test_interrupted(tmp_path):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 30))).rename(columns=str)
    X.to_csv(tmp_path / "data.csv", index=False)
    fit = start("fit", tmp_path / "data.csv", "-o", tmp_path / "m.skops", "--set", "verbose=True")
    time.sleep(4)  # it imports, reads or trains; each of them may be interrupted
    fit.send_signal(signal.SIGINT)
    out, err = fit.communicate(timeout=120)
    assert fit.returncode == 130, err
    assert b"Traceback" not in err and b"nterrupted" in err and out == b""
    left = [path.name for path in tmp_path.iterdir()]
    assert set(left) <= {"data.csv", "m.skops"}
    if "m.skops" in left:
        assert b"the model has" in err
        run("sample", tmp_path / "m.skops", "-n", 3)


def test_a_sample_that_is_terminated_leaves_no_file_behind(folder, tmp_path):
    """As by `timeout`, a job scheduler or `docker stop`."""
    name = "rows.csv"
    (tmp_path / name).write_text("as before")
    sample = start("sample", folder / "model.skops", "-n", 10**9, "-o", tmp_path / name)
    until = time.monotonic() + 120
    while time.monotonic() < until and sample.poll() is None:
        if any(path.stat().st_size > 10_000 for path in tmp_path.glob(".rows.*")):
            break
        time.sleep(0.05)
    assert list(tmp_path.glob(".rows.*")), "it is written to a temporary file"
    sample.terminate()
    _, err = sample.communicate(timeout=120)
    assert sample.returncode == 128 + signal.SIGTERM and b"Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "as before"


def test_the_handler_of_sigterm_is_as_before(tmp_path):
    """Neither that of a program which writes a table, nor that of a thread, is touched."""
    table, path = [pd.DataFrame({"a": [1]})], str(tmp_path / "a.csv")
    seen = []

    def rows():
        seen.append(signal.getsignal(signal.SIGTERM))
        yield from table

    former = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        write_table(rows(), path, CsvFormat())
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with ThreadPoolExecutor(1) as pool:
            pool.submit(write_table, rows(), path, CsvFormat()).result()
        signal.signal(signal.SIGTERM, own := lambda *_: None)
        write_table(rows(), path, CsvFormat())
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, former)
    assert seen[0] not in (signal.SIG_DFL, own) and seen[1:] == [signal.SIG_DFL, own]


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {sktvae.__version__}\n" in citation


def test_a_name_that_occurs_twice_is_an_error(tmp_path):
    (tmp_path / "data.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(FileError, match="two columns named 'a'"):
        read_table(str(tmp_path / "data.csv"))


def test_decimal_commas_are_suspected(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a;b\n1,5;x\n-2,25;y\n")
    with pytest.warns(UserWarning, match="'a' is taken for text.*--decimal ,"):
        read_table(str(path))
    assert read_table(str(path), CsvOptions(decimal=",")).frame["a"].tolist() == [1.5, -2.25]


def test_conditions_are_written_as_the_data_are(tmp_path):
    data, model = tmp_path / "data.csv", tmp_path / "model.skops"
    numbers = np.random.default_rng(0).normal(size=200).round(1)
    pd.DataFrame({"a": numbers, "b": "x"}).to_csv(data, sep=";", decimal=",", index=False)
    run("fit", data, "-o", model, "--decimal", ",", *QUICK)
    rows = run("sample", model, "-n", 9, "--where", "a=-0,5..0,5").stdout.splitlines()[1:]
    assert all(abs(float(row.split(";")[0].replace(",", "."))) <= 0.5 for row in rows)


def test_links_and_permissions_stay(tmp_path):
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    target.touch(mode=0o600)
    link.symlink_to(target)
    write_table([pd.DataFrame({"a": [1]})], str(link), CsvFormat())
    assert link.is_symlink() and target.read_text() == "a\n1\n"
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_does_not_exist_is_named_before_the_fit(tmp_path):
    (tmp_path / "data.csv").write_text("a\n")  # not even read
    result = run("fit", tmp_path / "no.csv", "-o", tmp_path / "none" / "model.skops", code=1)
    assert "no folder" in result.stderr and "none" in result.stderr
