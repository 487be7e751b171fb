"""Two processes that fit one model together."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import joblib
import numpy as np
import pytest

from sktvae import TVAESynthesizer
from tests.training import ranks

ROOT = pathlib.Path(__file__).parents[2]


def start(commands, folder, variables):
    """Run a process per command; return how each of them ended."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    shared = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    processes = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=shared | own,
            stderr=(folder / f"stderr{rank}").open("w"),
        )
        for rank, (command, own) in enumerate(zip(commands, variables, strict=True))
    ]
    try:
        return [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()


def run(task, folder):
    """Run a task of ranks.py in two processes; return how each of them ended."""
    command = [sys.executable, ranks.__file__, task, str(folder)]
    return start([[*command, str(rank)] for rank in (0, 1)], folder, [{}, {}])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    assert run("fits", folder) == [0, 0], (folder / "stderr0").read_text()
    return folder


@pytest.fixture(scope="module")
def alone():
    model = TVAESynthesizer(**ranks.SETTINGS, conditional=False, random_state=0)
    return model.fit(ranks.table())


@pytest.mark.parametrize("name", ["default", "lopsided", "unequal"])
def test_all_ranks_end_with_the_same_estimator_bit_for_bit(folder, name):
    """The default one has no random_state, and the network behind conditions."""
    files = [(folder / f"{name}{rank}").read_bytes() for rank in (0, 1)]
    assert files[0] == files[1]


def test_the_encoder_and_the_loss_are_those_of_the_whole_table(folder, alone):
    """Although their rows differ in distribution and number, and those of one are on disk."""
    model = joblib.load(folder / "unequal0")
    assert joblib.hash(model.encoder_) == joblib.hash(alone.encoder_)
    assert model.n_iter_ == alone.n_iter_
    assert len(model.history_["loss"]) == len(alone.history_["loss"])
    X = ranks.table(5_000, seed=1)
    of_rank_0 = TVAESynthesizer(**ranks.SETTINGS, conditional=False, random_state=0)
    of_rank_0.fit(ranks.part(ranks.table(), 0, 0.3))
    together, whole, part = (m.score(X) for m in (model, alone, of_rank_0))
    assert abs(together - whole) < 0.1, (together, whole)
    assert whole - part > 0.3, (whole, part)


def test_draws_have_the_frequencies_of_all_rows(folder):
    """Each rank alone has others."""
    X, drawn = ranks.table(), joblib.load(folder / "default1").sample(20_000, random_state=0)
    for column in ("group", "count"):
        share = X[column].value_counts(normalize=True)
        found = drawn[column].value_counts(normalize=True).reindex(share.index, fill_value=0)
        assert np.abs(found - share).max() < 0.02, column
    assert abs(drawn["number"].mean() - X["number"].mean()) < 0.1


def test_every_row_counts_alike_however_few_a_rank_has(folder):
    """One rank has the tenth with the lowest numbers, which are not to count as a half."""
    drawn = joblib.load(folder / "lopsided0").sample(20_000, random_state=0)
    expected = ranks.table()["number"].describe()
    assert abs(drawn["number"].mean() - expected["mean"]) < 0.2 * expected["std"]


def test_conditions_are_met_by_what_several_ranks_learned(folder):
    model = joblib.load(folder / "default0")
    assert model.any_order_.n_rows == len(ranks.table())
    drawn = model.sample(2_000, conditions={"group": "a"}, random_state=0)
    X = ranks.table()
    expected = X.loc[X["group"] == "a", "number"].mean()
    assert abs(drawn["number"].mean() - expected) < 0.3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("column", "group"),
        ("parameter", "it is 12 on rank 0 and 13 on rank 1"),
        ("names", "count1"),
        ("few rows", "Rank 0 has 8 row"),
        ("fewer rows than steps", "Rank 0 has 36 rows to train on, but an epoch has 180 steps"),
        ("sample_weight", "sample_weight is not supported in 2 processes"),
        ("imputer", "TVAEImputer.fit is not supported in 2 processes"),
    ],
)
def test_what_is_wrong_on_one_rank_is_an_error_on_both(folder, name, words):
    for rank in (0, 1):
        errors = json.loads((folder / f"errors{rank}.json").read_text())
        assert errors[name] is not None and words in errors[name], errors[name]


def test_the_same_selector_of_columns_is_not_taken_for_another_parameter(folder):
    """Although it is elsewhere in the memory of each process, which its representation shows."""
    for rank in (0, 1):
        assert json.loads((folder / f"errors{rank}.json").read_text())["selector"] is None


def test_an_error_of_another_rank_names_it(folder):
    errors = json.loads((folder / "errors0.json").read_text())
    assert "process 1: TypeError: Column 'group'" in errors["column"]


@pytest.mark.slow
def test_the_script_of_the_documentation_runs(tmp_path):
    """In processes that find each other by environment variables, as with torchrun and Slurm."""
    section = (ROOT / "docs" / "scale.md").read_text().split("## Several processes")[1]
    (script,) = re.findall(r"^```py\n(# fit.py\n.*?)^```", section, flags=re.S | re.M)
    (tmp_path / "fit.py").write_text(script)
    ranks.table(200).to_csv(tmp_path / "table.csv", index=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "fit.py"]
    ended = start([command] * 2, tmp_path, [shared | {"RANK": str(rank)} for rank in (0, 1)])
    assert ended == [0, 0], (tmp_path / "stderr0").read_text()
    assert len(joblib.load(tmp_path / "model.joblib").sample(10)) == 10


def test_a_killed_rank_is_an_error_on_the_other(tmp_path):
    """At once, since the connection is closed, and not at the end of the timeout of 30 minutes."""
    ended = run("killed", tmp_path)
    assert ended[1] == -9
    found = (tmp_path / "error0").read_text()
    assert found.startswith("ContactLost: Rank 0 of 2 lost contact"), found
    assert "Start all ranks again" in found
