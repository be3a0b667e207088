"""The score of random vectors and of the untrained encoder, which tells whether a task is trivial or hopeless.

Random vectors are evaluated by the same code as an encoder's. Their score shows how much the numbers of candidates and
of relevant texts give by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from mtcl.arrays import BoolArray, FloatArray, IntArray
from mtcl.data.store import TokenStore
from mtcl.evaluation import Pool, Result, evaluate
from mtcl.evaluation.bitext import HIT
from mtcl.evaluation.pool import judge
from mtcl.task.kind import Kind
from mtcl.task.metrics import BitextAccuracy, Metric, PairMetric, RankingMetric

DIM, SEED = 64, 0
MOST_SCORES = 1 << 31
"""The number of cosines above which random vectors are not evaluated, since it would take minutes."""
TRIVIAL, EASY_BY_CHANCE = 0.97, 0.5
HOPELESS = 2.0
"""Standard errors above chance from which the untrained encoder finds something."""


@dataclass(frozen=True)
class Baseline:
    """The primary metric of random vectors and of the untrained encoder on one split; None if it was not evaluated."""

    split: str
    metric: Metric
    random: Result | None
    base: Result | None = None

    def lines(self) -> list[str]:
        """Warnings about a task that is trivial, hopeless or easy by chance."""
        found, name = [], self.metric.name
        chance = None if self.random is None else self.random.primary
        if chance is not None and chance >= EASY_BY_CHANCE and not isinstance(self.metric, PairMetric):
            found.append(
                f"random vectors reach {name} {chance:.2f} on {self.split}: there are few texts to find, so the metric "
                "says little; evaluate with more candidates"
            )
        if self.base is None:
            return found
        reached = self.base.primary
        if reached >= TRIVIAL:
            found.append(
                f"the untrained encoder reaches {name} {reached:.3f} on {self.split}: there is little left to learn; "
                "make the task harder or leave it out"
            )
        elif chance is not None and reached <= chance + HOPELESS * _error(self.base, self.metric):
            found.append(
                f"the untrained encoder ({name} {reached:.3f}) is no better than random vectors ({chance:.3f}) on "
                f"{self.split}: are the two columns of each row about the same thing?"
            )
        return found

    def inflation(self, seen_I: BoolArray) -> list[str]:
        """The effect of items that training has seen on the score, and the most that remembering them can add.

        `seen_I` has a value for each query or pair of the split. A result may leave out pairs, and sort the others.
        """
        result, metric = self.base or self.random, self.metric
        if result is None:
            return []
        if not isinstance(metric, RankingMetric):
            seen_I = seen_I[result.items.items]
        if not seen_I.any():
            return []
        of = "the untrained encoder" if self.base else "random vectors"
        line = f"{metric.name} on {self.split} is {result.primary:.3f} for {of}"
        without = score_without(result, metric, seen_I)
        line += ", and " + (
            "training has seen all its rows" if without is None else f"{without:.3f} without what training has seen"
        )
        if not isinstance(metric, PairMetric):
            hits_I = _hits(result, metric)
            remembered = _macro_mean(np.where(seen_I, hits_I.clip(min=1), hits_I), result.items.languages)
            line += f"; remembering the training rows alone gives up to {remembered:.3f}"
        return [line]


def random_result(name: str, store: TokenStore, metric: Metric) -> Result | None:
    """The result of random unit vectors; None if the split is too large to be evaluated quickly."""
    search = store.pairs.search
    if store.pairs.kind is Kind.POSITIVE and len(search.queries) * len(search.candidates) > MOST_SCORES:
        return None
    generator = torch.Generator().manual_seed(SEED)

    def embed(texts: IntArray) -> torch.Tensor:
        return F.normalize(torch.randn(len(texts), DIM, generator=generator), dim=1)

    return evaluate(Pool(name, store, metric), embed)


def item_scores(result: Result, metric: Metric) -> FloatArray:
    """(I,) the primary metric of each item; the result is their mean. Metrics of judged pairs have none."""
    return result.items.column(metric.name)


def score_without(result: Result, metric: Metric, seen_I: BoolArray) -> float | None:
    """The primary metric of the items that training has not seen, None if they are too few to have one.

    It is the mean over their languages, as the primary metric is.
    """
    language_I = result.items.languages
    if not isinstance(metric, PairMetric):
        return None if seen_I.all() else _macro_mean(_hits(result, metric)[~seen_I], language_I[~seen_I])
    cosine_I, score_I, of_language = result.items.column("cosine"), result.items.column("score"), []
    for language in np.unique(language_I[~seen_I]):
        rows = ~seen_I & (language_I == language)
        if not np.isnan(value := float(judge(metric, cosine_I[rows], score_I[rows]))):
            of_language.append(value)
    return sum(of_language) / len(of_language) if of_language else None


def _hits(result: Result, metric: Metric) -> FloatArray:
    """(I,) what each item reached: a hit for translations, else its score."""
    return result.items.column(HIT if isinstance(metric, BitextAccuracy) else metric.name)


def _macro_mean(values_I: FloatArray, language_I: FloatArray) -> float:
    """The mean over languages of the means of their items."""
    return float(np.mean([values_I[language_I == language].mean() for language in np.unique(language_I)]))


def _error(result: Result, metric: Metric) -> float:
    """The standard error of a score; for a correlation, that of a correlation of 0."""
    if isinstance(metric, PairMetric):
        return 1 / float(np.sqrt(max(1, result.num_items)))
    scores_I = item_scores(result, metric)
    return float(scores_I.std() / np.sqrt(len(scores_I)))
