"""What copy-paste adds counts for the prior, and travels in checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from balms_seg.class_statistics import ClassStatistics
from balms_seg.class_statistics.class_record import ClassRecord
from balms_seg.class_statistics.pasted import with_pasted
from balms_seg.class_statistics.pasted_counts import PastesPerImage

NUM_IMAGES = 5
DICTS = [
    {"annotations": [{"category_id": class_id} for class_id in classes]}
    for classes in ([0, 0], [0], [0, 1], [2], [])
]
# Class 1 twice in every other image, class 2 in every fourth, and in half the images something.
PASTES = PastesPerImage(
    instances=np.array([0.0, 1.0, 0.25]), images=np.array([0.0, 0.5, 0.25]), any_class=0.5
)


def test_each_prior_counts_what_is_pasted() -> None:
    repeats = np.array([1.0, 1.0, 2.0, 3.0, 1.0])
    plain = ClassStatistics.from_dataset_dicts(DICTS, 3, repeat_factors=repeats)
    counted = with_pasted(plain, PASTES, NUM_IMAGES, repeat_factors=repeats)
    assert counted.prior_counts("instance").tolist() == [4, 1 + 5, 1 + 1.25]
    assert counted.prior_counts("sampled").tolist() == [5, 2 + 8, 3 + 2]
    # Of images that show the class anyway none is added: 4 are left of each rare class.
    assert counted.prior_counts("image").tolist() == [3, 1 + 2, 1 + 1]
    # 4 images have objects, and the fifth gets some half of the time.
    np.testing.assert_allclose(counted.frequency, np.array([3, 3, 2]) / 4.5)


def test_what_is_annotated_stays() -> None:
    plain = ClassStatistics.from_dataset_dicts(DICTS, 3)
    counted = with_pasted(plain, PASTES, NUM_IMAGES)
    assert counted.instance_counts.tolist() == plain.instance_counts.tolist() == [4, 1, 1]
    assert counted.image_counts.tolist() == plain.image_counts.tolist() == [3, 1, 1]
    assert {k: v.tolist() for k, v in counted.groups.items()} == {
        k: v.tolist() for k, v in plain.groups.items()
    }


def test_draws_need_their_repeat_factors() -> None:
    plain = ClassStatistics.from_dataset_dicts(DICTS, 3, repeat_factors=np.ones(NUM_IMAGES))
    with pytest.raises(ValueError, match="repeat_factors"):
        with_pasted(plain, PASTES, NUM_IMAGES)


@pytest.mark.parametrize(
    ("pastes", "expected"),
    [
        (PastesPerImage(np.ones(2), np.ones(2), 1.0), "pastes of the 3 classes .* but got 2"),
        (PastesPerImage(np.full(3, np.nan), np.ones(3), 1.0), "pasted instances .* minimum nan"),
        (PastesPerImage(np.ones(3), np.array([0, 0, -1.0]), 1.0), "pasted images .* minimum -4"),
    ],
)
def test_what_cannot_be_pasted_is_refused(pastes: PastesPerImage, expected: str) -> None:
    plain = ClassStatistics.from_dataset_dicts(DICTS, 3)
    with pytest.raises(ValueError, match=expected):
        with_pasted(plain, pastes, NUM_IMAGES)


def test_a_record_with_half_of_what_was_pasted_is_refused() -> None:
    plain = ClassStatistics.from_dataset_dicts(DICTS, 3)
    values = ClassRecord.from_statistics(with_pasted(plain, PASTES, NUM_IMAGES)).to_plain()
    record = ClassRecord.from_plain({**values, "pasted_images": []})
    with pytest.raises(ValueError, match=r"Expected pasted images to be \(3,\)"):
        record.to_statistics()


def test_nothing_pasted_leaves_the_counts() -> None:
    plain = ClassStatistics.from_dataset_dicts(DICTS, 3)
    assert with_pasted(plain, None, NUM_IMAGES) is plain


def test_what_was_pasted_travels_in_a_checkpoint() -> None:
    """So that predictions do not depend on whether the training set is at hand."""
    repeats = np.array([1.0, 1.0, 2.0, 3.0, 1.0])
    plain = ClassStatistics.from_dataset_dicts(DICTS, 3, repeat_factors=repeats)
    counted = with_pasted(plain, PASTES, NUM_IMAGES, repeat_factors=repeats)
    record = ClassRecord.from_plain(ClassRecord.from_statistics(counted).to_plain())
    for kind in ("image", "instance", "sampled"):
        there = record.to_statistics().prior_counts(kind)
        assert there.tolist() == counted.prior_counts(kind).tolist()
    old = {k: v for k, v in record.to_plain().items() if not k.startswith("pasted")}
    of_old = ClassRecord.from_plain(old).to_statistics()
    assert of_old.prior_counts("instance").tolist() == plain.prior_counts("instance").tolist()
