"""Configuration files are found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from balms_seg import model_zoo

NAME = "lvis_v1/balanced_softmax_mask_rcnn_R_50_FPN_1x.yaml"


def test_a_name_leads_to_its_file() -> None:
    path = Path(model_zoo.get_config_file(NAME))
    assert path.is_file()
    assert path.as_posix().endswith(f"configs/{NAME}")


def test_configurations_in_the_package_come_before_those_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_wheel, beside = tmp_path / "package" / "configs", tmp_path / "configs"
    for root in (in_wheel, beside):
        (root / "toy").mkdir(parents=True)
        (root / "toy" / "base.yaml").touch()
    monkeypatch.setattr(model_zoo, "_ROOTS", (in_wheel, beside))
    assert model_zoo.get_config_file("toy/base.yaml") == str(in_wheel / "toy" / "base.yaml")


def test_an_unknown_name_lists_the_folder_it_points_into() -> None:
    with pytest.raises(FileNotFoundError, match="balanced_softmax_mask_rcnn") as error:
        model_zoo.get_config_file("lvis_v1/balanced_softmax_mask_rcnn_R_50.yaml")
    assert NAME in str(error.value)
    assert "lvis_v0.5" not in str(error.value)


def test_an_unknown_folder_lists_everything() -> None:
    with pytest.raises(FileNotFoundError) as error:
        model_zoo.get_config_file("lvis/base.yaml")
    assert NAME in str(error.value)
    assert "toy/base.yaml" in str(error.value)


def test_the_list_says_in_a_line_what_each_configuration_that_can_be_run_is() -> None:
    lines = model_zoo.describe_config_files().splitlines()
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    root = Path(model_zoo.get_config_file("toy/base.yaml")).parents[1]
    runnable = {
        str(path.relative_to(root))
        for path in root.rglob("*.yaml")
        if path.read_text().startswith(("# python tools/train_net.py", "# balms-seg train"))
    }
    assert shown.keys() == runnable
    assert "toy/base.yaml" not in shown
    assert shown["lvis_v1/balanced_sigmoid_mask_rcnn_R_50_FPN_1x.yaml"].startswith("Balanced Softm")
    assert shown["toy/demo.yaml"] == "What make demo trains."
    assert all(text.endswith(".") for text in shown.values())
