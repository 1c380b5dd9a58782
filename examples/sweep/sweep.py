"""Finds the best parameters of a classifier of handwritten digits: each fit is a task.

`python3 sweep.py [BACKEND]`: joblib's "zpipe", or another one of its names to compare with.
"""

from __future__ import annotations

import sys

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import zpipe.joblib  # noqa: F401 - makes the backend known

GRID = {"C": [0.1, 1.0, 10.0], "gamma": [0.0001, 0.001, 0.01]}
IMAGES = 450
"""So many of the 1,797 are enough to see a difference."""


def search(backend: str) -> GridSearchCV:
    """Fit every combination of the grid on each of three parts of the data; return the finished search."""
    digits, labels = load_digits(return_X_y=True)
    found = GridSearchCV(SVC(), GRID, cv=3)
    with joblib.parallel_config(backend=backend, n_jobs=-1):
        return found.fit(digits[:IMAGES], labels[:IMAGES])


def main(backend: str = "zpipe") -> None:
    """Search; print the mean score of each combination, and the best one."""
    found = search(backend)
    for parameters, score in zip(found.cv_results_["params"], found.cv_results_["mean_test_score"], strict=True):
        print(f"{score:.12f}  {parameters}")
    print(f"best: {found.best_params_} scores {found.best_score_:.12f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
