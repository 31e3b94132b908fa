"""The shares of classes are judged by the hypergeometric distribution, all comparisons taken together."""

import numpy as np
import pytest
from scipy.stats import hypergeom

from kubetfx.components.data.class_shares import unusual_classes

CLASSES = ["no", "yes"]


def counts(**splits) -> dict[str, np.ndarray]:
    return {name: np.array(rows) for name, rows in splits.items()}


@pytest.mark.parametrize(("seen", "is_said"), [(199, False), (160, False), (145, True), (260, True)])
def test_a_share_is_unusual_beyond_chance(seen, is_said):
    """1,000 of 10,000 rows are of the class, and 2,000 are in the split."""
    chance = 2 * min(hypergeom.cdf(seen, 10_000, 1_000, 2_000), hypergeom.sf(seen - 1, 10_000, 1_000, 2_000))
    assert (chance * 4 < 1e-4) == is_said
    found = unusual_classes(counts(eval=[2_000 - seen, seen], train=[7_000 + seen, 1_000 - seen]), CLASSES)
    said = f"'yes' is {seen / 2_000:.1%} of its rows and 10.0% of all"
    assert (said in " ".join(found.get("eval", []))) == is_said


def test_few_rows_of_a_class_are_not_surprising_as_a_normal_distribution_has_it():
    """Three of three rows in a tenth of the table: once in a thousand tables, and five standard deviations."""
    assert unusual_classes(counts(train=[900, 0], validation=[97, 3]), CLASSES) == {
        "train": ["It has no row of the class 'yes'."]
    }


def test_splits_at_random_are_as_asked():
    drawn = np.random.default_rng(0)
    for _ in range(300):
        labels, splits = drawn.integers(0, 10, 3_000), drawn.choice(3, 3_000, p=[0.7, 0.1, 0.2])
        by_split = {str(split): np.bincount(labels[splits == split], minlength=10) for split in range(3)}
        assert unusual_classes(by_split, [str(number) for number in range(10)]) == {}


def test_missing_classes_are_named():
    found = unusual_classes(counts(train=[9, 1, 1, 1, 1, 1], eval=[3, 0, 0, 0, 0, 1]), list("abcdef"))
    assert found == {"eval": ["It has no row of the classes 'b', 'c', 'd' and 1 more."]}
