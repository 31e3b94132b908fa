import numpy as np
import pytest
from PIL import Image

from kubetfx.components.evaluation.confusion import confusion_matrix, kappa
from kubetfx.components.evaluation.image_evaluation import Scored, by_class, change, top_k_accuracy
from kubetfx.components.evaluation.image_gallery import TILE, sheet_of

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.1, 0.6], [0.5, 0.4, 0.1], [0.2, 0.5, 0.3]])
LABELS = np.array([0, 1, 2, 1, 2])


class Linear:
    """A network whose gradient is known: it likes class 1 the better the brighter the image."""

    def gradient(self, pixels, labels):
        return np.ones_like(pixels, np.float32) * np.where(labels == 1, -1, 1)[:, None, None, None]


@pytest.fixture
def scored() -> Scored:
    pixels = np.zeros((5, 4, 4, 3), np.uint8)
    return Scored(tuple("abcde"), pixels, LABELS, PROBABILITIES.astype(np.float32))


def test_confusion_matrix_counts_what_is_and_what_is_said(scored):
    assert confusion_matrix(scored.labels, scored.probabilities.argmax(axis=1), num_classes=3).tolist() == [
        [1, 0, 0],
        [1, 1, 0],
        [0, 1, 1],
    ]


def test_class_that_the_model_does_not_know_is_left_out_of_the_confusion_and_counts_as_wrong(scored):
    unknown = Scored(scored.paths, scored.pixels, np.array([0, 1, 2, 1, -1]), scored.probabilities)

    assert confusion_matrix(unknown.labels, unknown.probabilities.argmax(axis=1), num_classes=3).sum() == 4
    assert top_k_accuracy(unknown, 3) == pytest.approx(0.8)


def test_top_k_accuracy_is_the_share_of_images_with_their_class_among_the_k_best(scored):
    assert top_k_accuracy(scored, 1) == pytest.approx(0.6)
    assert top_k_accuracy(scored, 2) == pytest.approx(1.0)


def test_kappa_is_that_of_scikit_learn(scored):
    from sklearn.metrics import cohen_kappa_score

    confusion = confusion_matrix(scored.labels, scored.probabilities.argmax(axis=1), num_classes=3)
    assert kappa(confusion) == pytest.approx(cohen_kappa_score(LABELS, PROBABILITIES.argmax(axis=1)))
    assert kappa(np.array([[3, 0], [0, 0]])) is None


def test_classes_have_the_scores_of_scikit_learn(scored):
    from sklearn.metrics import precision_recall_fscore_support

    found = by_class(
        confusion_matrix(scored.labels, scored.probabilities.argmax(axis=1), num_classes=3), ("a", "b", "c")
    )
    expected = precision_recall_fscore_support(LABELS, PROBABILITIES.argmax(axis=1))
    for index, key in enumerate(("precision", "recall", "f1", "images")):
        assert [found[name][key] for name in "abc"] == pytest.approx(list(expected[index]))
    assert by_class(np.array([[0, 0], [0, 2]]), ("a", "b"))["a"] == {"images": 0, "precision": 0, "recall": 0, "f1": 0}


@pytest.mark.parametrize("kind", ["noise", "blur", "rotation", "jpeg", "fgsm"])
def test_stronger_change_changes_more(kind):
    half = np.zeros((2, 16, 16, 3), np.uint8)
    half[:, :, 8:] = 200
    half[:, ::2] += 30
    weak, strong = {"noise": (0.01, 0.2), "blur": (0.5, 3), "rotation": (3, 40), "jpeg": (95, 5), "fgsm": (0.01, 0.1)}[
        kind
    ]
    options = {"number": 0, "network": Linear(), "labels": np.array([0, 1])}

    a, b = (np.asarray(change(half, kind, strength, **options), np.float32) for strength in (weak, strong))
    again = np.asarray(change(half, kind, strong, **options), np.float32)

    assert a.shape == half.shape
    assert 0 < np.abs(a - half).mean() < np.abs(b - half).mean()
    assert b.min() >= 0
    assert b.max() <= 255
    np.testing.assert_array_equal(b, again)


def test_gradient_attack_goes_against_the_label():
    grey = np.full((2, 4, 4, 3), 100, np.uint8)

    attacked = change(grey, "fgsm", 0.1, number=0, network=Linear(), labels=np.array([0, 1]))

    assert attacked[0].min() == pytest.approx(125.5)
    assert attacked[1].max() == pytest.approx(74.5)


def test_sheet_has_rows_of_tiles():
    tiles = [Image.new("RGB", (TILE, TILE + 36)) for _ in range(9)]

    assert sheet_of(tiles).size == (8 * TILE, 2 * (TILE + 36))
    assert sheet_of([]).size[0] > 0


def test_slice_by_label_has_the_name_of_the_class():
    from kubetfx.components.evaluator import _with_class_name

    assert _with_class_name("label=1", ("left", "übrig")) == "label=übrig"
    assert _with_class_name("format=png, label=0", ("left", "übrig")) == "format=png, label=left"
    assert _with_class_name("label=7", ("left",)) == "label=7"
    assert _with_class_name("my_label=0", ("left",)) == "my_label=0"
