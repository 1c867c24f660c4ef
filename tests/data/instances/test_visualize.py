"""Pictures of the training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2")
pytest.importorskip("matplotlib")

from detectron2.config import CfgNode, get_cfg
from PIL import Image
from small_sets import changed, lvis_style, new_name, write_set

from balms_seg.commands.command_line import run_command
from balms_seg.config import add_balms_config
from balms_seg.data import register_from_config
from balms_seg.data.instances.visualization import GROUP_COLOURS, draw_training_data
from balms_seg.engine.jobs.choice import build_job

ROOT = Path(__file__).resolve().parents[3]
RLE = {"size": [16, 20], "counts": [100, 20, 200]}


def config(tmp_path: Path, content: dict | None = None) -> CfgNode:
    cfg = get_cfg()
    add_balms_config(cfg)
    name, path = new_name(), write_set(tmp_path / "set", content or lvis_style())
    cfg.DATASETS.REGISTER = [[name, str(path), str(tmp_path / "set" / "images")]]
    cfg.DATASETS.TRAIN = (name,)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.MASK_ON = True
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.INPUT.MIN_SIZE_TRAIN = (32,)
    cfg.SEED = 1
    return cfg


def draw(cfg: CfgNode, folder: Path, **options: object) -> list[Path]:
    register_from_config(cfg)
    return draw_training_data(cfg, build_job(cfg).load_training_set(), folder, **options)


def test_annotations_are_drawn_once_each_and_change_the_picture(tmp_path: Path) -> None:
    paths = draw(config(tmp_path), tmp_path / "out", num_images=9, source="annotation")
    assert [path.name for path in paths] == ["00000_a.jpg", "00001_b.jpg"]
    again = draw(config(tmp_path), tmp_path / "out", num_images=9, source="annotation")
    assert again == paths  # into a folder that is there
    picture = np.asarray(Image.open(paths[0]))
    assert picture.shape == (512, 640, 3)
    assert np.ptp(picture.reshape(-1, 3), axis=0).min() > 50


def test_loader_source_gives_as_many_as_asked(tmp_path: Path) -> None:
    paths = draw(config(tmp_path), tmp_path / "out", num_images=5)
    assert len(paths) == 5
    assert {path.stem[6:] for path in paths} == {"a", "b"}
    assert all(path.is_file() for path in paths)


@pytest.mark.parametrize("source", ["annotation", "dataloader"])
def test_bitmasks_boxes_and_crowds_are_drawn(tmp_path: Path, source: str) -> None:
    content = changed(lvis_style(), "annotations", 0, segmentation=RLE)
    cfg = config(tmp_path, changed(content, "annotations", 1, segmentation=RLE, iscrowd=1))
    cfg.INPUT.MASK_FORMAT = "bitmask"
    assert len(draw(cfg, tmp_path / "masks", num_images=2, source=source)) == 2
    cfg = config(tmp_path / "2", changed(lvis_style(), "annotations", 0, segmentation=None))
    cfg.MODEL.MASK_ON = False
    assert len(draw(cfg, tmp_path / "boxes", num_images=2, source=source)) == 2


def test_labels_and_colours_say_the_frequency_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detectron2.utils.visualizer import Visualizer

    drawn = []
    original = Visualizer.overlay_instances

    def recording(self: Visualizer, **arguments: object) -> object:
        drawn.append(arguments)
        return original(self, **arguments)

    monkeypatch.setattr(Visualizer, "overlay_instances", recording)
    draw(config(tmp_path), tmp_path / "out", num_images=1, source="annotation")
    assert drawn[0]["labels"] == ["cat (frequent)", "dog (rare)"]
    assert drawn[0]["assigned_colors"] == [GROUP_COLOURS[2], GROUP_COLOURS[0]]


def test_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="annotation, dataloader, but got 'both'"):
        draw(config(tmp_path), tmp_path, num_images=1, source="both")


def test_tool_takes_this_projects_keys(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_set(tmp_path / "set", lvis_style())
    name = new_name()
    file = tmp_path / "config.yaml"
    file.write_text("VERSION: 2\nMODEL: {META_ARCHITECTURE: GeneralizedRCNN}\n")
    arguments = ["--config-file", str(file), "--output", str(tmp_path / "out")]
    arguments += ["--num-images", "1", "--source", "annotation"]
    arguments += ["DATASETS.REGISTER", f"[['{name}', '{path}', '{tmp_path}/set/images']]"]
    arguments += ["DATASETS.TRAIN", f"('{name}',)", "MODEL.METHODS.BALANCED_SOFTMAX.PRIOR", "image"]
    run_command("visualize data", arguments)
    assert (tmp_path / "out" / "00000_a.jpg").is_file()
    assert (
        f"{tmp_path / 'out'}: 1, as annotated. Training sees 2 of 3 images ("
        in capsys.readouterr().out
    )
    other = new_name()
    deeper = tmp_path / "set" / "images" / "deeper"
    deeper.mkdir()
    arguments[arguments.index("DATASETS.REGISTER") + 1] = f"[['{other}', '{path}', '{deeper}']]"
    arguments[arguments.index("DATASETS.TRAIN") + 1] = f"('{other}',)"
    with pytest.raises(SystemExit, match="Register the set with image folder .*images"):
        run_command("visualize data", arguments)


def test_tool_ends_with_the_message_of_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("VERSION: 2\n")
    arguments = ["--config-file", str(file), "--output-dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="'nowhere' is not registered"):
        run_command("visualize data", [*arguments, "DATASETS.TRAIN", "('nowhere',)"])
