"""The report says what is wrong with a synthetic table, and its page is safe and whole."""

import builtins
import html.parser
import itertools
import json
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest

from sktvae.inspection import report
from tests.inspection.conftest import visits

LEVELS = ["low", "mid", "high", "top"]


def patients(n, seed):
    """Columns that depend on each other, in pairs."""
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(2, n))
    return pd.DataFrame(
        {
            "age": np.round(50 + 12 * x).astype(int),
            "pressure": np.round(120 + 10 * x + 4 * rng.normal(size=n)),
            "dose": np.round(np.exp(u), 2),
            "weight": np.round(70 + 10 * rng.normal(size=n), 1),
            "level": np.array(LEVELS)[
                np.clip(np.round(u + 1.5 + 0.4 * rng.normal(size=n)), 0, 3).astype(int)
            ],
            "city": rng.choice(["Bonn", "Rome", "Oslo", "Cork"], n, p=[0.5, 0.3, 0.15, 0.05]),
        }
    )


def shuffled(table, names, seed=0):
    rng = np.random.default_rng(seed)
    return table.assign(**{name: rng.permutation(table[name]) for name in names})


@pytest.fixture(scope="module")
def real():
    return patients(800, 0)


@pytest.fixture(scope="module")
def clean(real):
    return report(real, patients(800, 1), random_state=0)


def test_rows_of_the_same_source_are_good(clean):
    assert clean.fidelity.verdict == "good"
    assert not clean.fidelity.reasons
    assert "told from real ones" in repr(clean)
    assert (clean.figures["verdict"] != "poor").all()


def test_without_a_holdout_privacy_is_unknown(clean):
    assert clean.privacy.verdict == "unknown"
    assert "holdout" in clean.privacy.headline


def test_independent_columns_are_poor_and_the_report_says_why(real):
    bad = report(real, shuffled(patients(800, 1), list(real)), random_state=0)
    assert bad.fidelity.verdict == "poor"
    assert "can be told from real ones" in bad.fidelity.headline
    assert any("pair" in reason for reason in bad.fidelity.reasons)
    for reason in bad.fidelity.reasons:
        assert reason in repr(bad)
    assert not any("distribution differs" in reason for reason in bad.fidelity.reasons)


def test_one_broken_pair_is_named(real):
    broken = report(real, shuffled(patients(800, 1), ["level"]), random_state=0)
    assert broken.fidelity.verdict == "poor"
    assert set(broken.worst_pairs()[0][:2]) == {"dose", "level"}
    assert any("'dose'" in reason and "'level'" in reason for reason in broken.fidelity.reasons)


def test_one_wrong_column_is_named_and_comes_first(real):
    wrong = patients(800, 1)
    wrong["weight"] = wrong["weight"] + 8
    told = report(real, wrong, random_state=0)
    assert told.columns["column"][0] == told.marginals[0].name == "weight"
    assert any("'weight'" in reason for reason in told.fidelity.reasons)


def test_copied_rows_are_found_and_listed(real):
    synthetic = patients(800, 1)
    copied = np.arange(40) * 7
    synthetic.iloc[copied] = real.iloc[copied + 3]
    told = report(real, synthetic, patients(800, 2), random_state=0)
    assert told.privacy.verdict == "poor"
    assert "copied" in told.privacy.headline
    found = dict(told.copies.itertuples(index=False))
    assert {row: found.get(row) for row in copied} == {row: row + 3 for row in copied}
    assert told.fidelity.verdict == "good"
    page = told.to_html()
    assert f'<td class="number">{copied[1]}</td><td class="number">{copied[1] + 3}</td>' in page


def test_a_holdout_clears_rows_that_are_not_copied(real):
    told = report(real, patients(800, 1), patients(800, 2), random_state=0)
    assert told.privacy.verdict == "good" and "not a proof" in told.privacy.headline
    assert told.n_rows == {"real": 800, "synthetic": 800, "holdout": 800}


def test_a_lost_category_is_named(real):
    synthetic = patients(800, 1)
    synthetic = synthetic[synthetic["city"] != "Cork"]
    told = report(real, synthetic, random_state=0)
    assert told.fidelity.verdict != "good"
    assert any("'Cork'" in reason for reason in told.fidelity.reasons)
    assert told.lost_named()["category"].tolist() == ["Cork"]
    assert "<td>Cork</td>" in told.to_html()


def test_rare_categories_are_not_named_anywhere(real):
    rare = real.assign(city=real["city"].where(real.index > 2, "Tristan da Cunha"))
    told = report(rare, patients(800, 1), random_state=0)
    assert "Tristan" in told.lost["category"].to_list()[-1]
    for text in (told.to_html(), told.to_json()):
        assert "Tristan" not in text


def test_columns_that_one_table_lacks_are_named_and_left_out(real):
    told = report(real.assign(key=1), patients(300, 1).assign(extra="e"), random_state=0)
    assert told.not_compared == {"real": ["key"], "synthetic": ["extra"], "identifiers": []}
    assert set(told.columns["column"]) == set(real)
    assert "only the real table has them: key" in told.to_html()


def test_identifiers_are_left_out_and_named(real):
    first = real.assign(number=np.arange(800), code=[f"p{i}" for i in range(800)])
    second = patients(800, 1).assign(number=np.arange(800, 1600), code="new")
    told = report(first, second, random_state=0)
    assert told.not_compared["identifiers"] == ["number", "code"]
    assert told.fidelity.verdict == "good" and set(told.columns["column"]) == set(real)
    assert "as with identifiers: number, code" in told.to_html()


def test_a_target_adds_utility(real):
    told = report(real, patients(800, 1), target="level", random_state=0)
    assert "utility_score" in told.figures.index
    assert "Prediction on real rows" in told.to_html()
    with pytest.raises(ValueError, match="'nothing' is not a column"):
        report(real, real, target="nothing")


def test_data_are_plain_and_are_those_of_the_report(clean):
    data = json.loads(clean.to_json())
    assert data == clean.to_dict()
    assert data["fidelity"]["verdict"] == clean.fidelity.verdict
    by_name = {figure["name"]: figure for figure in data["figures"]}
    assert by_name["detection_auc"]["value"] == clean.figures.loc["detection_auc", "value"]
    assert by_name["membership_auc"]["value"] is None  # no holdout
    assert data["worst_pairs"][0]["columns"] == list(clean.worst_pairs()[0][:2])


def test_the_same_seed_gives_the_same_page(real, clean):
    again = report(real, patients(800, 1), random_state=0)
    assert again.to_html() == clean.to_html()


class Page(html.parser.HTMLParser):
    """What of a page matters here."""

    void = {"meta", "link", "img", "br", "input", "hr"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.ids, self.links = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def every(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def strange():
    """A table whose names and values are markup."""
    name = 'a"><img src=x onerror=alert(1)>'
    tables = [visits(300, i).rename(columns={"grade": name}) for i in (0, 1)]
    tables[1] = tables[1][tables[1]["ward"] != "<script>alert(1)</script>"]
    tables[0] = tables[0].assign(**{"<i>only</i>": 1})
    return report(*tables, title="<b>bold</b> & co", random_state=0)


def test_names_and_values_are_text_not_markup(strange):
    page = strange.to_html()
    parsed = Page(page)
    assert not parsed.every("script") and not parsed.every("b") and not parsed.every("i")
    for image in parsed.every("img"):
        assert image["src"].startswith("data:image/svg+xml;base64,") and "onerror" not in image
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page  # the lost category
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in page


def test_the_page_is_well_formed_and_accessible(strange):
    parsed = Page(strange.to_html())
    assert not parsed.open
    assert parsed.every("html")[0]["lang"] == "en"
    assert len(parsed.ids) == len(set(parsed.ids))
    for link in parsed.every("a"):
        assert link["href"].removeprefix("#") in parsed.ids
    for image in parsed.every("img"):
        assert len(image["alt"]) > 10
    for head in parsed.every("th"):
        assert head["scope"] in ("col", "row")
    levels = [int(tag[1]) for tag, _ in parsed.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    for region in (a for _, a in parsed.tags if a.get("role") == "region"):
        assert region["tabindex"] == "0" and ("aria-label" in region or "aria-labelledby" in region)


def test_the_page_is_self_contained(strange):
    parsed = Page(strange.to_html())
    for _, attributes in parsed.tags:
        for key in ("src", "href", "data", "action", "srcset"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert not parsed.every("iframe") and not parsed.every("style")[1:]


def test_a_notebook_gets_a_frame_of_its_own(strange, tmp_path):
    shown = Page(strange._repr_html_())
    ((tag, attributes),) = shown.tags
    assert tag == "iframe" and attributes["sandbox"] == "" and attributes["title"]
    page = strange.to_html(tmp_path / "report.html")
    assert attributes["srcdoc"] == page == (tmp_path / "report.html").read_text(encoding="utf-8")


def test_progress_goes_to_stderr_only_if_wanted(real, capsys):
    few = real.head(60)
    report(few, patients(60, 1))
    assert capsys.readouterr() == ("", "")
    report(few, patients(60, 1), progress=True)
    out, err = capsys.readouterr()
    assert not out and "distributions" in err and "detection" in err


def test_tables_and_matplotlib_are_left_as_they_were(real):
    synthetic, held_out = patients(200, 1), patients(200, 2)
    before = [table.copy() for table in (real, synthetic, held_out)]
    settings, backend = dict(matplotlib.rcParams), matplotlib.get_backend()
    state = np.random.get_state()[1].copy()
    report(real, synthetic, held_out, random_state=0).to_html()
    for table, old in zip((real, synthetic, held_out), before, strict=True):
        pd.testing.assert_frame_equal(table, old)
    assert dict(matplotlib.rcParams) == settings and matplotlib.get_backend() == backend
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_pyplot_is_not_imported():
    code = (
        "import sys, numpy as np; from sktvae.inspection import report;"
        "x = np.random.default_rng(0).normal(size=(60, 3));"
        "report(x[:30], x[30:], random_state=0).to_html();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_names_the_extra(clean, monkeypatch, package):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"sktvae\[(report|plot)\]"):
        clean.to_html()
    assert json.loads(clean.to_json())  # the figures need neither


def test_wrong_tables_are_refused(real):
    with pytest.raises(ValueError, match=r"holdout lacks the columns.*'city'"):
        report(real, real, real.drop(columns="city"))
    with pytest.raises(ValueError, match="share no column"):
        report(real[["age"]], real[["city"]])
    with pytest.raises(TypeError, match="'age'"):
        report(real, real.assign(age="old"))


def test_small_and_narrow_tables():
    one = pd.DataFrame({"x": [1.5, 2.5, 3.5, None]})
    told = report(one, one, random_state=0)
    assert told.fidelity.verdict == "unknown" and "too few" in told.fidelity.headline
    assert "Pairs of columns" in told.to_html() and not told.worst_pairs()
    array = np.random.default_rng(0).normal(size=(40, 2))
    assert len(report(array[:20], array[20:], random_state=0).columns) == 2


@pytest.mark.parametrize("shift", [0, 1e-3])
def test_an_auc_below_one_half_is_called_a_guess(shift):
    rng = np.random.default_rng(2)
    table = pd.DataFrame(rng.normal(size=(600, 3)), columns=list("abc"))
    real = table[:300]
    judged = report(real, real + shift if shift else table[300:], random_state=0)
    value = judged.figures.loc["detection_auc", "value"]
    assert value < 0.49 and f"{value:.2f}" not in repr(judged)
    assert "a guess" in judged.fidelity.headline
    assert ("near-copies" in judged.fidelity.headline) == bool(shift)


def test_tables_without_names_are_matched_by_position(real):
    numbers = real[["age", "dose", "weight"]]
    arrays = [numbers.to_numpy()[half] for half in (slice(400), slice(400, None))]
    judged = report(numbers, *arrays, random_state=0)
    assert judged.not_compared == {"real": [], "synthetic": [], "identifiers": []}
    assert set(judged.columns["column"]) == {"age", "dose", "weight"}
