"""The files of a glyph data set: LVIS's form, the same bytes every time, whole or refused."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the glyph data set draws matplotlib's fonts")

from lvis import LVIS
from pycocotools.coco import COCO

from balms_seg.commands.command_line import run_command
from balms_seg.glyphs import glyph_dataset as glyphs
from balms_seg.glyphs.glyph_dataset import SPLITS, GlyphConfig, make_glyph_dataset
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
