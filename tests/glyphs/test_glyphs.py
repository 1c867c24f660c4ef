"""The glyph data set: exact counts, exact polygons, the same bytes every time."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the glyph data set draws matplotlib's fonts")

import matplotlib
from lvis import LVIS
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from balms_seg.commands.command_line import run_command
from balms_seg.glyphs import glyph_dataset as glyphs
from balms_seg.glyphs import glyph_outlines
from balms_seg.glyphs.glyph_alphabet import PREFERRED, SIMILAR_PAIRS
from balms_seg.glyphs.glyph_counts import assign_classes, tail_counts
from balms_seg.glyphs.glyph_dataset import PRESETS, SPLITS, GlyphConfig, make_glyph_dataset
from balms_seg.glyphs.glyph_outlines import (
    category_name,
    choose_characters,
    contains,
    glyph_rings,
    signed_area,
)
from balms_seg.glyphs.glyph_plan import keyed_generator, plan_glyphs
from balms_seg.glyphs.glyph_rendering import render_image

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
SMALL = GlyphConfig(num_classes=12, train_images=24, min_count=2, val_images=12, size=96)

# Taken under these versions; other fonts, generators or rasterisers may differ in single pixels.
PINNED_VERSIONS = {"matplotlib": "3.11.2", "numpy": "2.4.6", "cv2": "5.0.0"}
PINNED_JSON = "80ed57b01531f1a2a84791137c2bf45d9a0b7b36aeedb485aa9e1bf452e9a57b"
PINNED_PIXELS = "6096d2dc25535ece83c59eb557f861fb8d1359a8c06be9be036f48118aac2705"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("glyphs") / "small"
    assert make_glyph_dataset(path, SMALL, workers=1)
    return path


def _load(root: Path, split: str) -> dict:
    return json.loads((root / f"{split}.json").read_text(encoding="utf-8"))


def _digests(root: Path) -> tuple[str, str]:
    """sha256 of the json files and of the decoded pixels."""
    texts, pixels = hashlib.sha256(), hashlib.sha256()
    for split in SPLITS:
        texts.update((root / f"{split}.json").read_bytes())
        for path in sorted((root / split).glob("*.png")):
            pixels.update(cv2.imread(str(path), cv2.IMREAD_COLOR).tobytes())
    return texts.hexdigest(), pixels.hexdigest()


def _decode(segmentation: list[list[float]], size: int) -> np.ndarray:
    runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, size, size))
    return coco_mask.decode(runs).astype(bool)


def _random_instances(count: int, faces: str) -> list[tuple]:
    """(annotation, mask) of glyphs drawn in `count` images."""
    characters = PREFERRED
    drawn = []
    for index in range(count):
        rng = keyed_generator(7, 0, index)
        classes = rng.integers(0, len(characters), 5).tolist()
        _, instances, masks = render_image(characters, classes, 128, faces, rng)
        drawn += [(i.annotation(), m) for i, m in zip(instances, masks, strict=True)]
    return drawn


# Counts


def test_tail_runs_from_the_greatest_to_the_least_count() -> None:
    counts = tail_counts(40, 3, 400)
    assert (counts[0], counts[-1]) == (400, 3)
    assert (np.diff(counts) <= 0).all()
    assert tail_counts(40, 3, 400, 0.5).sum() < counts.sum() < tail_counts(40, 3, 400, 2).sum()


def test_default_has_a_third_of_each_frequency() -> None:
    counts = plan_glyphs(PRESETS["default"]).image_counts
    rare, common = (counts <= 10).sum(), ((counts > 10) & (counts <= 100)).sum()
    assert counts.min() >= 1
    assert sorted([rare, common, 40 - rare - common]) == [13, 13, 14]


def test_benchmark_preset_is_the_published_design() -> None:
    plan = plan_glyphs(PRESETS["benchmark"])
    assert len(plan.instances["train"]) == 843
    assert (plan.image_counts.min(), plan.image_counts.max()) == (3, 400)
    for split in ("val", "heldout"):
        assert len(plan.instances[split]) == 200
        counts = Counter(c for image in plan.instances[split] for c in image)
        assert counts == dict.fromkeys(range(40), 20)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        GlyphConfig(num_classes=1, train_images=5, val_images=3),
        GlyphConfig(num_classes=3, max_count=50, instances_per_image=(5, 6), val_images=9),
        GlyphConfig(num_classes=30, min_count=7, max_count=7, val_images=40),
        GlyphConfig(num_classes=40, max_count=60, tail_exponent=3.0, val_images=40),
        GlyphConfig(num_classes=300, train_images=1000, seed=2**32 - 1),
    ],
)
def test_every_class_is_in_as_many_images_as_planned(config: GlyphConfig) -> None:
    resolved, plan = config.resolved(), plan_glyphs(config)
    expected = tail_counts(
        config.num_classes, config.min_count, resolved.max_count, config.tail_exponent
    )
    seen = Counter(c for image in plan.instances["train"] for c in set(image))
    assert [seen[k] for k in range(config.num_classes)] == plan.image_counts.tolist()
    assert sorted(plan.image_counts.tolist(), reverse=True) == expected.tolist()
    low, high = config.instances_per_image
    for split, images in plan.instances.items():
        assert len(images) == (resolved.train_images if split == "train" else resolved.val_images)
        assert all(low <= len(image) <= high for image in images)


def test_assignment_is_feasible_up_to_the_brim() -> None:
    counts = np.array([10, 10, 10, 9, 1])
    images = assign_classes(counts, 10, 4, 4, np.random.default_rng(0))
    assert all(len(set(image)) == 4 for image in images)
    assert np.bincount(np.concatenate(images)).tolist() == counts.tolist()


def test_frequent_classes_meet_in_images_as_chance_has_it() -> None:
    counts = np.array([300, 300, 300, 300])
    images = assign_classes(counts, 600, 1, 3, np.random.default_rng(0))
    together = sum({0, 1} <= set(image) for image in images)
    assert 60 < together < 180  # greedy filling alone gives about 0 or 300


# Shapes


@pytest.mark.parametrize("face", ["DejaVuSans-Bold", "STIXGeneral", "cmb10"])
def test_holes_are_outside_the_ring(face: str) -> None:
    (ring,) = glyph_rings("B", face)
    width, height = np.ptp(ring, axis=0)
    assert max(width, height) == pytest.approx(1)
    on_stem = contains(ring, np.array([ring[:, 0].min() + 0.25 * width, 0.0]))
    holes = [contains(ring, np.array([0.02, y])) for y in (-0.25, 0.25)]
    assert on_stem
    assert holes == [False, False]


def test_ring_area_is_the_outer_contour_less_its_holes() -> None:
    contours = glyph_outlines._contours("8", "DejaVuSans-Bold")
    rings = glyph_rings("8", "DejaVuSans-Bold")
    scale = np.ptp(np.concatenate(contours), axis=0).max()
    areas = sorted((abs(signed_area(c)) for c in contours), reverse=True)
    assert len(contours) == 3
    assert len(rings) == 1
    assert abs(signed_area(rings[0])) * scale**2 == pytest.approx(areas[0] - sum(areas[1:]))


@pytest.mark.parametrize("character", PREFERRED)
def test_filled_rings_are_the_fonts_own_rendering(character: str) -> None:
    """Against matplotlib's rasteriser, which fills the untouched path by the nonzero rule."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Affine2D

    side = 200
    for face in glyph_outlines.faces_with(character, "all"):
        font = matplotlib.font_manager.FontProperties(fname=glyph_outlines._font_file(face))
        outline = Outline(*matplotlib.textpath.TextToPath().get_text_path(font, character))
        box = outline.get_extents()
        scale = (side - 20) / max(box.width, box.height)
        center = Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
        renderer = RendererAgg(side, side, 72)
        graphics = renderer.new_gc()
        graphics.set_linewidth(0)
        placed = center.scale(scale).translate(side / 2, side / 2)
        renderer.draw_path(graphics, outline, placed, (0.0, 0.0, 0.0))
        expected = np.asarray(renderer.buffer_rgba())[..., 3] > 127
        rings = [ring * (side - 20) + side / 2 for ring in glyph_rings(character, face)]
        filled = _decode([ring.ravel().tolist() for ring in rings], side)
        assert (filled & expected).sum() / (filled | expected).sum() > 0.96, face


def test_polygons_decode_to_the_rendered_masks() -> None:
    overlaps = []
    for annotation, mask in _random_instances(40, "bold"):
        decoded = _decode(annotation["segmentation"], 128)
        overlaps.append((decoded & mask).sum() / (decoded | mask).sum())
        assert annotation["area"] == pytest.approx(mask.sum(), rel=0.15)
    assert min(overlaps) > 0.85
    assert np.mean(overlaps) > 0.95


def test_thin_faces_agree_too() -> None:
    overlaps = []
    for annotation, mask in _random_instances(20, "all"):
        decoded = _decode(annotation["segmentation"], 128)
        overlaps.append((decoded & mask).sum() / (decoded | mask).sum())
    assert np.mean(overlaps) > 0.92


def test_the_glyph_is_where_its_mask_says() -> None:
    """The same image drawn with and without its glyphs differs under the masks."""
    rng = keyed_generator(3, 0, 0)
    image, _, masks = render_image(PREFERRED, [0, 5, 9], 128, "bold", rng)
    for mask in masks:
        ring = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~mask
        ring &= ~masks.any(0)
        inside, outside = (np.median(image[region], axis=0) for region in (mask, ring))
        assert np.linalg.norm(inside - outside) > 40


def test_glyphs_do_not_overlap_and_stay_inside() -> None:
    for index in range(20):
        rng = keyed_generator(1, 0, index)
        _, instances, masks = render_image(PREFERRED, [1, 2, 3, 4, 5, 6], 128, "bold", rng)
        assert masks.sum(0).max() == 1
        for instance in instances:
            points = np.concatenate(instance.rings) / 16
            assert points.min() >= 1
            assert points.max() <= 127


@pytest.mark.parametrize(("size", "crowd"), [(32, 2), (40, 4), (64, 10), (128, 40)])
def test_the_greatest_allowed_crowd_fits(size: int, crowd: int) -> None:
    GlyphConfig(size=size, instances_per_image=(crowd, crowd)).resolved()
    for index in range(5):
        rng = keyed_generator(0, 0, index)
        _, instances, masks = render_image(PREFERRED, range(crowd), size, "bold", rng)
        assert len(instances) == crowd
        assert masks.any((1, 2)).all()


# The alphabet


def test_a_thousand_classes_are_distinct() -> None:
    characters = choose_characters(1000)
    assert characters[: len(PREFERRED)] == tuple(PREFERRED)
    assert len({category_name(c) for c in characters}) == 1000
    outlines = {
        b"".join(np.rint(r * 100).tobytes() for r in glyph_rings(c, "DejaVuSans-Bold"))
        for c in characters
    }
    assert len(outlines) == 1000


def test_more_classes_than_glyphs_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected at most .* classes"):
        choose_characters(100_000)


def test_similar_glyphs_pair_a_frequent_with_a_rare_class() -> None:
    plan = plan_glyphs(GlyphConfig(similar=True))
    counts = dict(zip(plan.characters, plan.image_counts.tolist(), strict=True))
    assert len(counts) == 40
    assert all(counts[a] > counts[b] for a, b in SIMILAR_PAIRS[:20])


# The files


def test_lvis_and_coco_interfaces_read_it(small: Path) -> None:
    for split in SPLITS:
        lvis, coco = LVIS(str(small / f"{split}.json")), COCO(str(small / f"{split}.json"))
        assert len(lvis.get_cat_ids()) == len(coco.getCatIds()) == 12
        for identity, annotation in coco.anns.items():
            area = coco.annToMask(annotation).sum()
            assert area == lvis.ann_to_mask(lvis.anns[identity]).sum() > 0


def test_fields_follow_lvis(small: Path) -> None:
    train = _load(small, "train")
    images_of: dict[int, set[int]] = {c["id"]: set() for c in train["categories"]}
    for annotation in train["annotations"]:
        images_of[annotation["category_id"]].add(annotation["image_id"])
    instances = Counter(a["category_id"] for a in train["annotations"])
    for category in train["categories"]:
        count = len(images_of[category["id"]])
        assert category["image_count"] == count
        assert category["instance_count"] == instances[category["id"]]
        assert category["frequency"] == ("r" if count <= 10 else "c" if count <= 100 else "f")
    assert [c["id"] for c in train["categories"]] == list(range(1, 13))
    assert len({a["id"] for a in train["annotations"]}) == len(train["annotations"])
    for image in train["images"]:
        present = {k for k, images in images_of.items() if image["id"] in images}
        assert set(image["neg_category_ids"]) == set(images_of) - present
        assert image["not_exhaustive_category_ids"] == []
        assert cv2.imread(str(small / "train" / image["file_name"])).shape == (96, 96, 3)
    assert all(_load(small, s)["categories"] == train["categories"] for s in SPLITS)


def test_coordinates_are_sixteenths_and_boxes_are_tight(small: Path) -> None:
    for annotation in _load(small, "val")["annotations"]:
        points = np.concatenate([np.reshape(s, (-1, 2)) for s in annotation["segmentation"]])
        assert (points * 16 == np.rint(points * 16)).all()
        low, high = points.min(0), points.max(0)
        assert annotation["bbox"] == [*low, *(high - low)]


def test_evaluation_splits_are_balanced_and_not_the_same(small: Path) -> None:
    val, heldout = _load(small, "val"), _load(small, "heldout")
    for split in (val, heldout):
        counts = Counter(a["category_id"] for a in split["annotations"])
        assert counts == dict.fromkeys(range(1, 13), 4)
    assert val["annotations"] != heldout["annotations"]


# Reproducible, resumable


def test_result_does_not_depend_on_the_number_of_workers(small: Path, tmp_path: Path) -> None:
    make_glyph_dataset(tmp_path / "parallel", SMALL, workers=3)
    assert _digests(tmp_path / "parallel") == _digests(small)


def test_result_depends_on_the_seed() -> None:
    images = [
        render_image(PREFERRED, [0, 1], 64, "bold", keyed_generator(seed, split, index))[0]
        for seed, split, index in [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert (images[0] == images[1]).all()
    assert all((images[0] != other).any() for other in images[2:])


def test_bytes_are_the_pinned_ones(small: Path) -> None:
    versions = {name: sys.modules[name].__version__ for name in PINNED_VERSIONS}
    if versions != PINNED_VERSIONS:
        pytest.skip(f"digests were taken under {PINNED_VERSIONS}, here is {versions}")
    assert _digests(small) == (PINNED_JSON, PINNED_PIXELS)


def test_pinned_versions_are_those_of_the_constraints_file() -> None:
    path = ROOT / "constraints.txt"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the checkout")
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    pins = dict(line.split("==", 1) for line in lines if "==" in line)
    assert pins["matplotlib"] == PINNED_VERSIONS["matplotlib"]
    assert pins["numpy"] == PINNED_VERSIONS["numpy"]
    assert pins["opencv-python"].startswith(PINNED_VERSIONS["cv2"])


def test_a_complete_data_set_is_reused(small: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*")}
    assert not make_glyph_dataset(small, SMALL, workers=1)
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*")} == before


def test_a_damaged_data_set_is_written_again(small: Path, tmp_path: Path) -> None:
    make_glyph_dataset(tmp_path / "data", SMALL, workers=1)
    (tmp_path / "data" / "val" / "000003.png").unlink()
    assert make_glyph_dataset(tmp_path / "data", SMALL, workers=1)
    assert _digests(tmp_path / "data") == _digests(small)


def test_an_interrupted_run_is_not_taken_for_a_finished_one(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupted(*arguments: object) -> tuple:
        calls.append(arguments)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return render_image(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(glyphs, "render_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_glyph_dataset(tmp_path / "data", SMALL, workers=1)
    assert not list((tmp_path / "data").glob("*[ntl].json"))
    with pytest.raises(FileNotFoundError, match="no complete glyph data set"):
        glyphs.register_glyph_dataset(tmp_path / "data")
    assert make_glyph_dataset(tmp_path / "data", SMALL, workers=1)
    assert _digests(tmp_path / "data") == _digests(small)


def test_another_data_set_is_replaced_only_when_asked(tmp_path: Path) -> None:
    config = GlyphConfig(num_classes=4, train_images=4, val_images=4, size=64)
    other = GlyphConfig(num_classes=4, train_images=3, val_images=4, size=64)
    make_glyph_dataset(tmp_path / "data", config, workers=1)
    with pytest.raises(FileExistsError, match="with other max_count, train_images"):
        make_glyph_dataset(tmp_path / "data", other, workers=1)
    assert len(list((tmp_path / "data" / "train").iterdir())) == 4
    assert make_glyph_dataset(tmp_path / "data", other, workers=1, overwrite=True)
    assert len(list((tmp_path / "data" / "train").iterdir())) == 3


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_content_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.png").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no glyph data set"):
        make_glyph_dataset(tmp_path, SMALL, overwrite=overwrite)
    assert (tmp_path / "train" / "mine.png").read_text() == "mine"


@pytest.mark.parametrize("module", ["matplotlib", "tqdm"])
def test_a_missing_extra_is_named_before_anything_is_written(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"The glyph data set needs {module}, .*pip install"):
        make_glyph_dataset(tmp_path / "data", SMALL)
    assert not (tmp_path / "data").exists()


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes: expected at least 1, but got 0"),
        ({"min_count": 5, "max_count": 4}, "max_count: expected at least min_count, which is 5"),
        ({"tail_exponent": float("nan")}, "tail_exponent: expected a positive number"),
        ({"size": 48}, "size: expected 49 to 4096 px"),
        ({"size": 40, "instances_per_image": (2, 9)}, "size: expected 60 to 4096 px"),
        ({"seed": -1}, "seed: expected 0 to"),
        ({"instances_per_image": (3, 2)}, "instances_per_image: expected"),
        ({"faces": "thin"}, "faces: expected one of"),
        ({"similar": True, "num_classes": 9}, "num_classes: expected an even number"),
        ({"similar": True, "num_classes": 400}, "num_classes: expected at most"),
        ({"train_images": 100, "max_count": 101}, "Expected at least 101 images"),
        ({"train_images": 5000, "max_count": 100}, "classes in an image"),
        ({"train_images": 9, "min_count": 2}, "Expected room for 40 classes"),
        ({"val_images": 9}, "Expected at least 10 validation images"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_glyphs(GlyphConfig(**arguments))


def test_everything_out_of_range_is_listed_at_once() -> None:
    with pytest.raises(ValueError, match="min_count: .*; seed: "):
        GlyphConfig(min_count=0, seed=-1).resolved()


# The command and the registration


def test_command_writes_what_the_function_writes(small: Path, tmp_path: Path) -> None:
    options = "--classes 12 --train-images 24 --min-count 2 --val-images 12 --size 96 --workers 1"
    run_command("glyphs", ["--output", str(tmp_path / "data"), *options.split()])
    assert _digests(tmp_path / "data") == _digests(small)


def test_command_reports_an_error_in_one_line(tmp_path: Path) -> None:
    arguments = ["--output", str(tmp_path / "data"), "--size", "8", "--workers", "1"]
    with pytest.raises(SystemExit, match=r"glyphs: Cannot generate this glyph data set\. size"):
        run_command("glyphs", arguments)


def test_splits_register_under_the_prefix(small: Path) -> None:
    pytest.importorskip("detectron2")
    from detectron2.data import DatasetCatalog

    names = glyphs.register_glyph_dataset(small, prefix="test_glyphs")
    try:
        assert names == ["test_glyphs_train", "test_glyphs_val", "test_glyphs_heldout"]
        dicts = DatasetCatalog.get("test_glyphs_val")
        assert len(dicts) == 12
        assert all(Path(d["file_name"]).is_file() for d in dicts)
    finally:
        for name in names:
            DatasetCatalog.remove(name)
