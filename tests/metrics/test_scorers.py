"""Scorers that judge an estimator by its rows."""

import functools
import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.tree import DecisionTreeClassifier

from sktvae import metrics
from tests.conftest import small


class Resampler(BaseEstimator):
    """Draws training rows; with `independent`, each column by itself."""

    def __init__(self, independent=False):
        self.independent = independent

    def fit(self, X, y=None):
        self.rows_ = X
        return self

    def sample(self, n_samples=1, *, random_state=None):
        drawn = self.rows_.sample(n_samples, replace=True, random_state=random_state)
        if self.independent:
            rng = np.random.default_rng(random_state)
            drawn = drawn.apply(lambda column: rng.permutation(column.to_numpy()))
        return drawn.reset_index(drop=True)


SCORERS = [
    metrics.fidelity_scorer("detection_auc", estimator=DecisionTreeClassifier(max_depth=4)),
    metrics.fidelity_scorer("pair_error"),
    metrics.fidelity_scorer("mutual_information_error"),
    metrics.fidelity_scorer("precision"),
    metrics.utility_scorer("smoker", estimator=DecisionTreeClassifier(max_depth=4)),
]


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_a_search_prefers_the_better_estimator(real, scorer):
    search = GridSearchCV(
        Resampler(), {"independent": [True, False]}, scoring=scorer, cv=KFold(2), refit=False
    ).fit(real)
    assert search.best_params_ == {"independent": False}


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_scores_are_deterministic_and_survive_pickling(real, other, scorer):
    model = Resampler().fit(real)
    score = scorer(model, other)
    assert scorer(model, other) == score
    assert pickle.loads(pickle.dumps(scorer))(model, other) == score


def test_a_synthesizer_is_scored(fitted, table):
    scorer = metrics.fidelity_scorer("pair_error", n_samples=200, random_state=1)
    expected = metrics.pair_error(table, fitted.sample(200, random_state=1))
    assert scorer(fitted, table) == -expected


def test_a_synthesizer_in_a_search(table):
    scorer = metrics.utility_scorer("risk")
    search = GridSearchCV(
        small(epochs=1), {"embedding_dim": [2, 3]}, scoring=scorer, cv=2, error_score="raise"
    ).fit(table)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_own_figures(real, other):
    scorer = metrics.make_synthesis_scorer(
        metrics.detection_auc, greater_is_better=False, random_state=3, cv=3
    )
    model = Resampler().fit(real)
    made = model.sample(len(other), random_state=3)
    assert scorer(model, other) == -metrics.detection_auc(other, made, cv=3, random_state=3)


def test_what_cannot_sample_is_refused(real):
    with pytest.raises(TypeError, match="has no method `sample`"):
        metrics.fidelity_scorer("pair_error")(DummyClassifier(), real)
    with pytest.raises(ValueError, match="'metric' parameter of fidelity_scorer"):
        metrics.fidelity_scorer("beauty")


def test_a_metric_without_a_name_is_shown():
    scorer = metrics.make_synthesis_scorer(functools.partial(metrics.pair_error, average="mean"))
    assert "pair_error" in repr(scorer)


def test_near_copies_of_the_rows_to_be_scored_are_no_good_rows(real):
    class Copies(Resampler):
        def sample(self, n_samples=1, *, random_state=None):
            return self.rows_.reset_index(drop=True)

    scorer = metrics.fidelity_scorer("detection_auc")
    model = Copies().fit(real)
    assert metrics.detection_auc(real, model.sample()) < 0.3
    assert scorer(model, real) < -0.7
