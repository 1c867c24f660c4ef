"""The box-counting dimension against shapes of known dimension and a count cell by cell."""

import numpy as np
import pytest

from balms_seg.class_statistics.fractal_dimension import fractal_dimensions


def test_a_line_has_dimension_one_and_a_full_image_two() -> None:
    side = np.arange(64) / 64 + 1 / 128
    line = np.stack([side, np.full(64, 0.5)], axis=1)
    plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    centers = np.concatenate([line, plane])
    classes = np.repeat([0, 1], [len(line), len(plane)])
    found = fractal_dimensions(centers, classes, 3)
    # A line of 64 objects is fitted on grids of up to 64 cells: 8 cells a side.
    assert found == pytest.approx([1.0, 2.0, 1.0], abs=1e-9)


def test_a_class_with_fewer_than_four_objects_has_dimension_one() -> None:
    centers = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]])
    assert fractal_dimensions(centers, np.zeros(3, int), 2).tolist() == [1.0, 1.0]


def test_counts_are_those_of_going_through_every_cell() -> None:
    rng = np.random.default_rng(0)
    centers, classes = rng.random((60, 2)) ** 2, rng.integers(0, 3, 60)
    expected = []
    for index in range(3):
        own = centers[classes == index]
        sides = [s for s in range(1, 65) if s * s <= len(own)]
        counts = [len({(int(x * s), int(y * s)) for x, y in own}) for s in sides]
        slope = np.polyfit(np.log(sides), np.log(counts), 1)[0]
        expected.append(max(slope, 1.0))
    assert fractal_dimensions(centers, classes, 3) == pytest.approx(expected)


def test_centres_in_pixels_are_an_error() -> None:
    with pytest.raises(ValueError, match="divide by the image's width"):
        fractal_dimensions(np.array([[30.0, 4.0]]), np.zeros(1, int), 1)


def test_boxes_of_a_training_set_are_placed_by_their_shares_of_the_image() -> None:
    pytest.importorskip("detectron2")
    from detectron2.structures import BoxMode

    from balms_seg.engine.tuning.calibration_search import training_fractal_dimensions

    rng = np.random.default_rng(0)
    centers, classes = rng.uniform(0.2, 0.8, (400, 2)), np.repeat([0, 1], [300, 100])
    centers[:300] = centers[:300].round(1)  # few places, many objects
    records = []
    for center, k in zip(centers, classes.tolist(), strict=True):
        size = rng.integers(50, 500, 2)
        box = [*(center * size - [3, 2]), *(center * size + [3, 2])]
        annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": k}
        records.append({"width": size[0], "height": size[1], "annotations": [annotation]})
    found = training_fractal_dimensions(records, 2)
    # Shares that lie on a line of the grid may fall to either side of it.
    assert found == pytest.approx(fractal_dimensions(centers, classes, 2), rel=0.05)
    assert found[0] != pytest.approx(found[1], rel=0.05)
