"""Instances of rare classes are pasted into other images, and what they cover is no object's."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.config import CfgNode, get_cfg
from detectron2.structures import BoxMode

from balms_seg.class_statistics import ClassStatistics
from balms_seg.class_statistics.pasted import with_pasted
from balms_seg.config import add_balms_config, check_config
from balms_seg.data.instances import copy_paste
from balms_seg.data.instances.copy_paste import CopyPasteMapper, expected_pastes
from balms_seg.data.instances.mapper import InstanceMapper
from balms_seg.data.loading.configured_loader import build_train_loader
from balms_seg.data.loading.mapped_dataset import KeyedMapDataset
from balms_seg.sampling import Draw
from balms_seg.training_objects import TrainingObjects

SIDE = 24
FREQUENT, RARE, RARER = 0, 1, 2
NUM_IMAGES = 16


def entry(class_id: int, box: tuple[int, int, int, int]) -> dict:
    left, top, right, bottom = box
    return {
        "category_id": class_id,
        "bbox": list(box),
        "bbox_mode": BoxMode.XYXY_ABS,
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "iscrowd": 0,
    }


@pytest.fixture
def dicts(tmp_path: Path) -> list[dict]:
    """Images of one grey value each, ten times their number; the last four show rare classes."""
    records = []
    for i in range(NUM_IMAGES):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.full((SIDE, SIDE, 3), 10 * i, dtype=np.uint8)).save(path)
        entries = [entry(FREQUENT, (2, 2, 22, 22))]
        if i >= 12:
            entries = [entry(RARER if i == 15 else RARE, (4, 6, 14, 12))]
        sizes = {"height": SIDE, "width": SIDE}
        records.append({"file_name": str(path), "image_id": i, **sizes, "annotations": entries})
    return records


@pytest.fixture
def cfg() -> CfgNode:
    """Every image gets one instance; classes in a fifth of the images are rare."""
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (SIDE,), SIDE
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.COPY_PASTE.PROBABILITY = 1.0
    cfg.INPUT.COPY_PASTE.MAX_INSTANCES = 1
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.SEED = 3
    return cfg


def mapper_of(cfg: CfgNode, dicts: list[dict]) -> CopyPasteMapper:
    return CopyPasteMapper.of(cfg, InstanceMapper(cfg, True), dicts, 3)


def test_pixels_mask_and_box_of_the_instance_arrive_together(
    cfg: CfgNode, dicts: list[dict]
) -> None:
    np.random.seed(0)
    places = set()
    for _ in range(20):
        output = mapper_of(cfg, dicts)(dicts[3])
        objects, image = output["instances"], output["image"]
        assert objects.gt_classes[0] == FREQUENT
        assert objects.gt_classes[-1] in (RARE, RARER)
        pasted = objects.gt_masks.tensor[-1]
        grey = image[:, pasted].unique().tolist()
        assert len(grey) == 1
        assert grey[0] in ([150] if objects.gt_classes[-1] == RARER else [120, 130, 140])
        assert (image[:, ~pasted] == 30).all()
        assert pasted.sum() == 10 * 6
        rows, columns = (torch.nonzero(pasted.any(axis)).flatten() for axis in (1, 0))
        left, top, right, bottom = objects.gt_boxes.tensor[-1].tolist()
        assert (left, right - 1) == (columns[0], columns[-1])
        assert (top, bottom - 1) == (rows[0], rows[-1])
        places.add((left, top))
    assert len(places) > 10


def test_covered_objects_lose_what_is_covered(cfg: CfgNode, dicts: list[dict]) -> None:
    np.random.seed(1)
    plain = InstanceMapper(cfg, True)(dicts[3])["instances"]
    for _ in range(10):
        objects = mapper_of(cfg, dicts)(dicts[3])["instances"]
        whole, pasted = plain.gt_masks.tensor[0], objects.gt_masks.tensor[-1]
        assert (objects.gt_masks.tensor[0] == (whole & ~pasted)).all()


@pytest.mark.parametrize(("height", "is_kept"), [(12, False), (12.8, False), (16, True)])
def test_an_object_that_hardly_shows_is_none_any_longer(
    cfg: CfgNode, dicts: list[dict], height: float, is_kept: bool
) -> None:
    """The instance is as wide as the image and half as high, and so is what it covers."""
    dicts[15]["annotations"] = [entry(RARER, (0, 0, SIDE, 12))]
    for record in dicts[12:15]:
        record["annotations"] = [entry(FREQUENT, (0, 0, 4, 4))]
    target = {**dicts[3], "annotations": [entry(FREQUENT, (0, 0, SIDE, height))]}
    mapper = mapper_of(cfg, dicts)
    np.random.seed(0)
    outputs = [mapper(target) for _ in range(60)]
    covered = [one for one in outputs if one["instances"].gt_boxes.tensor[-1, 1] == 0]
    assert covered  # pasted at the very top
    for output in covered:
        assert (len(output["instances"]) == 2) == is_kept
        if is_kept:  # its box is that of what is left
            assert output["instances"].gt_boxes.tensor[0].tolist() == [0, 12, SIDE, 16]


def test_classes_are_drawn_by_what_the_sampler_would_add(cfg: CfgNode, dicts: list[dict]) -> None:
    drawn = classes_drawn(cfg, dicts, 400)
    # r = sqrt(0.2 * 16 / n) of 3 images and of one; the frequent class has 1.
    expected = np.sqrt(3.2 / np.array([3, 1])) - 1
    share = expected[1] / expected.sum()
    assert FREQUENT not in drawn
    assert abs(np.mean(np.array(drawn) == RARER) - share) < 4 * np.sqrt(share * (1 - share) / 400)


def classes_drawn(cfg: CfgNode, dicts: list[dict], number: int) -> list[int]:
    np.random.seed(0)
    mapper = mapper_of(cfg, dicts)
    return [int(mapper(dicts[0])["instances"].gt_classes[-1]) for _ in range(number)]


def test_instance_aware_factors_are_of_images_and_instances(
    cfg: CfgNode, dicts: list[dict]
) -> None:
    """The image of the rarer class shows it eight times."""
    dicts[15]["annotations"] = 8 * dicts[15]["annotations"]
    cfg.DATALOADER.SAMPLER_TRAIN = "InstanceAwareRepeatFactorTrainingSampler"
    drawn = classes_drawn(cfg, dicts, 400)
    images, instances = np.array([3, 1]) / NUM_IMAGES, np.array([3, 8]) / (12 + 3 + 8)
    expected = np.sqrt(0.2 / np.sqrt(images * instances)) - 1
    share = expected[1] / expected.sum()
    assert 0.5 < share < 0.6  # by images alone it would be 0.96
    assert FREQUENT not in drawn
    assert abs(np.mean(np.array(drawn) == RARER) - share) < 4 * np.sqrt(share * (1 - share) / 400)


def test_a_class_that_the_instance_aware_sampler_does_not_repeat_is_not_pasted(
    cfg: CfgNode, dicts: list[dict]
) -> None:
    dicts[15]["annotations"] = 30 * dicts[15]["annotations"]
    assert {RARE, RARER} == set(classes_drawn(cfg, dicts, 60))
    cfg.DATALOADER.SAMPLER_TRAIN = "InstanceAwareRepeatFactorTrainingSampler"
    assert {RARE} == set(classes_drawn(cfg, dicts, 60))


@pytest.mark.parametrize(
    "name", ["TrainingSampler", "SquareRootTrainingSampler", "MetaRepeatFactorTrainingSampler"]
)
def test_with_the_other_samplers_rarity_is_by_images(
    cfg: CfgNode, dicts: list[dict], name: str
) -> None:
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    expected = classes_drawn(cfg, dicts, 30)
    cfg.DATALOADER.SAMPLER_TRAIN = name
    assert classes_drawn(cfg, dicts, 30) == expected


def test_what_goes_with_the_objects_stays(cfg: CfgNode, dicts: list[dict]) -> None:
    cfg.MODEL.PARTIAL_LABELS = True
    target = {**dicts[3], "neg_category_ids": [], "ignored_regions": [[1, 1, 5, 5]]}
    np.random.seed(0)
    objects = mapper_of(cfg, dicts)(target)["instances"]
    assert isinstance(objects, TrainingObjects)
    assert objects.ignored_boxes.tensor.tolist() == [[1, 1, 6, 6]]
    assert objects.known_classes.tolist() == [True, False, False]


def test_batches_do_not_depend_on_workers(cfg: CfgNode, dicts: list[dict]) -> None:
    batches = []
    for workers in (0, 2):
        cfg.DATALOADER.NUM_WORKERS = workers
        loader = build_train_loader(cfg, dataset_dicts=dicts)
        batches.append(next(iter(loader)))
    for one, other in zip(*batches, strict=True):
        assert len(one["instances"]) >= 2
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["instances"].gt_masks.tensor, other["instances"].gt_masks.tensor)


@pytest.mark.parametrize(("pastes", "number"), [(False, 1), (True, 0)])
def test_a_mapper_that_may_paste_nothing_is_warned_of(
    cfg: CfgNode,
    dicts: list[dict],
    caplog: pytest.LogCaptureFixture,
    pastes: bool,
    number: int,
) -> None:
    mapper = mapper_of(cfg, dicts) if pastes else InstanceMapper(cfg, True)
    with caplog.at_level(logging.WARNING, logger="balms_seg"):
        build_train_loader(cfg, mapper, dataset_dicts=dicts)
    said = [line for line in caplog.messages if "INPUT.COPY_PASTE.PROBABILITY is 1" in line]
    assert len(said) == number


@pytest.mark.parametrize("is_there", [True, False])
def test_a_source_that_cannot_be_read_is_named_and_not_what_it_goes_into(
    cfg: CfgNode, dicts: list[dict], is_there: bool
) -> None:
    for record in dicts[12:]:
        path = Path(record["file_name"])
        path.write_bytes(b"no image") if is_there else path.unlink()
    dataset = KeyedMapDataset(dicts, mapper_of(cfg, dicts))
    with pytest.raises(OSError, match=r"mage file \S*1[2-5].png of the training set") as caught:
        dataset[0, Draw(0, 0, 1.0)]
    assert dicts[0]["file_name"] not in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError) != is_there


def test_a_mapper_may_change_what_it_gets(cfg: CfgNode, dicts: list[dict]) -> None:
    plain = InstanceMapper(cfg, True)

    def emptying(record: dict) -> dict | None:
        output = plain(copy.deepcopy(record))
        del record["annotations"]
        return output

    mapper = CopyPasteMapper.of(cfg, emptying, dicts, 3)
    for _ in range(20):
        output = mapper(copy.deepcopy(dicts[0]))
        assert output is not None
        assert len(output["instances"]) == 2
    assert all("annotations" in record for record in dicts)


def test_what_a_pasted_object_would_lack_is_named(cfg: CfgNode, dicts: list[dict]) -> None:
    plain = InstanceMapper(cfg, True)

    def tracking(record: dict) -> dict:
        output = plain(record)
        output["instances"].gt_ids = torch.arange(len(output["instances"]))
        return output

    with pytest.raises(TypeError, match="the mapper's objects have gt_ids as well"):
        CopyPasteMapper.of(cfg, tracking, dicts, 3)(dicts[0])


def test_objects_without_masks_are_not_taken_for_covered_ones(
    cfg: CfgNode, dicts: list[dict]
) -> None:
    target = {**dicts[0], "annotations": [entry(FREQUENT, (2, 2, 22, 22))]}
    del target["annotations"][0]["segmentation"]
    with pytest.raises(TypeError, match="needs a mask of every object"):
        mapper_of(cfg, dicts)(target)


def test_a_class_that_an_own_sampler_draws_less_often_is_not_pasted(
    cfg: CfgNode, dicts: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sampler:
        @staticmethod
        def class_factors(*_: object, **__: object) -> np.ndarray:
            return np.array([0.5, 1.2, 1.6])

    monkeypatch.setattr(copy_paste, "repeat_factor_sampler", lambda _: Sampler)
    expected = expected_pastes(cfg, dicts, 3)
    assert expected is not None
    np.testing.assert_allclose(expected.instances, [0, 0.25, 0.75])
    assert FREQUENT not in classes_drawn(cfg, dicts, 20)


def test_without_a_rare_class_there_is_nothing_to_paste(cfg: CfgNode, dicts: list[dict]) -> None:
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.0
    with pytest.raises(ValueError, match="no class is rare"):
        mapper_of(cfg, dicts)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("INPUT.MASK_FORMAT", "polygon", "INPUT.MASK_FORMAT is polygon (expected bitmask)"),
        ("MODEL.MASK_ON", False, "MODEL.MASK_ON is False (expected True)"),
        ("INPUT.COPY_PASTE.PROBABILITY", 1.5, "PROBABILITY is 1.5; expected 0 to 1"),
        ("INPUT.COPY_PASTE.MAX_INSTANCES", 0, "MAX_INSTANCES is 0; expected at least 1"),
        ("MODEL.META_ARCHITECTURE", "ImageClassifier", "an image classifier has no instances"),
    ],
)
def test_what_cannot_be_is_said_with_the_key(
    cfg: CfgNode, key: str, value: object, expected: str
) -> None:
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match="contradicts itself") as caught:
        check_config(cfg)
    assert expected in str(caught.value)


def test_as_many_are_expected_as_whole_passes_paste(cfg: CfgNode, dicts: list[dict]) -> None:
    cfg.INPUT.COPY_PASTE.PROBABILITY, cfg.INPUT.COPY_PASTE.MAX_INSTANCES = 0.5, 3
    mapper = mapper_of(cfg, dicts)
    np.random.seed(0)
    passes = 60
    seen = np.zeros(3)
    for _ in range(passes):
        for record in dicts[:12]:
            output = mapper(record)
            assert output is not None
            classes = output["instances"].gt_classes
            seen += np.bincount(classes[classes != FREQUENT], minlength=3)
    expected = expected_pastes(cfg, dicts, 3)
    assert expected is not None
    assert expected.instances.sum() == pytest.approx(0.5 * 2)
    np.testing.assert_allclose(seen / (12 * passes), expected.instances, atol=0.1)


def test_an_image_counts_once_however_often_a_class_is_pasted(
    cfg: CfgNode, dicts: list[dict]
) -> None:
    """As many images as show the class in whole passes, those without an own object among them."""
    cfg.INPUT.COPY_PASTE.PROBABILITY, cfg.INPUT.COPY_PASTE.MAX_INSTANCES = 0.5, 3
    for record in dicts[:4]:
        record["annotations"] = []
    for record in dicts[14:]:
        record["annotations"] = dicts[4]["annotations"]  # so that one class alone is rare
    mapper = mapper_of(cfg, dicts)
    np.random.seed(0)
    passes = 60
    images = np.zeros(3)
    num_images = 0
    for _ in range(passes):
        for record in dicts:
            output = mapper(record)
            assert output is not None
            images[output["instances"].gt_classes.unique()] += 1
            num_images += len(output["instances"]) > 0
    plain = ClassStatistics.from_dataset_dicts(dicts, 3)
    counted = with_pasted(plain, expected_pastes(cfg, dicts, 3), NUM_IMAGES)
    seen = images / passes
    assert seen[RARE] == pytest.approx(counted.prior_counts("image")[RARE], abs=0.4)
    assert seen[RARE] / num_images * passes == pytest.approx(counted.frequency[RARE], abs=0.03)
    assert counted.frequency[RARE] < plain.frequency[RARE] + 0.5


def test_an_image_without_objects_gets_some(cfg: CfgNode, dicts: list[dict]) -> None:
    empty = {**dicts[0], "annotations": []}
    np.random.seed(0)
    output = mapper_of(cfg, dicts)(empty)
    assert output is not None
    (class_id,) = output["instances"].gt_classes.tolist()
    assert class_id in (RARE, RARER)
    assert output["instances"].gt_masks.tensor.sum() == 10 * 6


def test_crowd_regions_are_not_pasted(cfg: CfgNode, dicts: list[dict]) -> None:
    dicts[15]["annotations"] = [{**a, "iscrowd": 1} for a in dicts[15]["annotations"]]
    expected = expected_pastes(cfg, dicts, 3)
    assert expected is not None
    assert expected.instances.tolist() == expected.images.tolist() == [0, 1, 0]
    assert {RARE} == set(classes_drawn(cfg, dicts, 20))


def test_of_a_dropped_image_nothing_is_taken(cfg: CfgNode, dicts: list[dict]) -> None:
    plain = InstanceMapper(cfg, True)

    def dropping(record: dict) -> dict | None:
        return None if record["image_id"] >= 12 else plain(record)

    mapper = CopyPasteMapper.of(cfg, dropping, dicts, 3)
    assert mapper(dicts[15]) is None
    output = mapper(dicts[0])
    assert output is not None
    assert len(output["instances"]) == 1


def test_polygons_of_an_own_mapper_are_named(cfg: CfgNode, dicts: list[dict]) -> None:
    cfg.INPUT.MASK_FORMAT = "polygon"
    with pytest.raises(TypeError, match=r"made PolygonMasks; set INPUT.MASK_FORMAT bitmask"):
        mapper_of(cfg, dicts)(dicts[0])


def test_where_nothing_is_pasted_nothing_is_expected(cfg: CfgNode, dicts: list[dict]) -> None:
    cfg.INPUT.COPY_PASTE.PROBABILITY = 0.0
    assert expected_pastes(cfg, dicts, 3) is None
