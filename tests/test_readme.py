import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def _python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_the_example_for_other_projects_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block is short and leaves a model whose classifier is ours."""
    categories = ",".join(f'{{"id": {k}, "name": "class {k}"}}' for k in range(1, 81))
    annotations = ",".join(
        f'{{"id": {k}, "image_id": 1, "category_id": {k}, "bbox": [0, 0, 9, 9], "area": 81}}'
        for k in range(1, 81)
    )
    images = '{"id": 1, "file_name": "a.png", "height": 10, "width": 10}'
    (tmp_path / "train.json").write_text(
        f'{{"images": [{images}], "categories": [{categories}], "annotations": [{annotations}]}}'
    )
    monkeypatch.chdir(tmp_path)
    (block,) = _python_blocks()
    assert len(block.strip().splitlines()) <= 12
    scope: dict = {}
    exec(block, scope)
    predictor = scope["model"].roi_heads.box_predictor
    assert type(predictor.method).__name__ == "BalancedSoftmax"
    assert predictor.cls_score.out_features == 81


def test_every_file_that_the_readme_names_exists() -> None:
    root = README.parent
    configs = re.findall(r"configs/[\w./]+\.yaml", README.read_text())
    tools = re.findall(r"tools/\w+\.py", README.read_text())
    missing = [path for path in {*configs, *tools} if not (root / path).exists()]
    assert not missing
    assert configs
    assert tools


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_path_that_a_document_for_developers_names_exists(name: str) -> None:
    root = README.parent
    text = (root / name).read_text()
    paths = re.findall(r"(?:balms_seg|tools|tests|docs)/[\w./]*\w", text)
    assert [path for path in paths if not (root / path).exists()] == []


def test_the_layers_of_the_document_are_those_that_are_checked() -> None:
    from test_imports import LAYERS

    text = (README.parent / "docs" / "architecture.md").read_text()
    layers = text[text.index("## Layers") : text.index("## One training iteration")]
    rows = re.findall(r"^\| (`.*?) \|", layers, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    internal = {"configs", "needs_detectron2", "balms_seg", "__main__", "tools"}
    parts = {part for layer in LAYERS for part in layer}
    assert named - parts == set()
    assert parts - named - internal == set(), "name them in docs/architecture.md"
