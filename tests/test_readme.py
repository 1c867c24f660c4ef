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
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text())
    configs = re.findall(r"configs/[\w./]+\.yaml", README.read_text())
    tools = re.findall(r"tools/\w+\.py", README.read_text())
    missing = [path for path in {*links, *configs, *tools} if not (root / path).exists()]
    assert not missing
    assert links
    assert configs
    assert tools
