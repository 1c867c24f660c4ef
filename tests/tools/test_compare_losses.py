from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = [{"loss_cls": 0.1 + 0.2, "loss_mask": 0.7}, {"loss_cls": 0.25, "loss_mask": 0.5}]
LAST_DIGIT = [RUN[0], {"loss_cls": 0.25, "loss_mask": 0.5000000000000001}]
ANOTHER_NAME = [RUN[0], {"loss_cls": 0.25, "loss_keypoint": 0.5}]


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("benchmarks/compare_losses")


def _report(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, of_b: list[dict], *options: str
) -> int:
    """The exit status where the runs are recorded ones: B's cascade `of_b`, all others RUN."""

    def recorded(places: dict[str, Path], names: list[str], *_: object) -> dict[str, dict]:
        assert list(places) == ["A", "B"]
        return {name: {"A": RUN, "B": of_b if name == "cascade" else RUN} for name in names}

    monkeypatch.setattr(tool, "make_data", lambda *_: None)
    monkeypatch.setattr(tool, "make_weights", lambda *_: None)
    monkeypatch.setattr(tool, "train_both", recorded)
    return tool.main([str(ROOT), str(ROOT), *options])


def test_equal_losses_are_identical_and_printed_with_all_their_digits(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _report(tool, monkeypatch, RUN) == 0
    printed = capsys.readouterr().out
    for name in tool.SCENARIOS:
        assert f"{name} A=B  0  loss_cls 0.30000000000000004  loss_mask 0.7\n" in printed
    assert printed.count("identical") == len(tool.SCENARIOS) == 8


@pytest.mark.parametrize(
    ("of_b", "difference"),
    [
        (LAST_DIGIT, "iteration 1, loss_mask: 0.5 in A, 0.5000000000000001 in B"),
        (ANOTHER_NAME, "iteration 1, loss_keypoint: absent in A, 0.5 in B"),
        (RUN[:1], "iteration 1, loss_cls: 0.25 in A, absent in B"),
    ],
)
def test_the_first_difference_is_reported(
    tool: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    of_b: list[dict],
    difference: str,
) -> None:
    output = tmp_path / "losses.json"
    assert _report(tool, monkeypatch, of_b, "--output", str(output)) == 1
    table = capsys.readouterr().out.partition("verdict\n")[2].splitlines()
    verdicts = {line.split()[0]: line.split(maxsplit=2)[2] for line in table}
    assert verdicts.pop("cascade") == difference
    assert set(verdicts.values()) == {"identical"}
    runs = json.loads(output.read_text())["runs"]
    assert (runs["cascade"]["A"], runs["cascade"]["B"]) == (RUN, of_b)


def test_a_folder_that_is_no_checkout_is_refused(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tool.main([str(ROOT), str(tmp_path)])
    assert "has no tools/train_net.py" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkout_agrees_with_itself_from_saved_weights_too(
    tool: ModuleType, tmp_path: Path
) -> None:
    output, weights = tmp_path / "losses.json", tmp_path / "weights"
    names = ["balms_sampler", "image_feature_balanced"]
    options = [word for name in names for word in ("--only", name)]
    assert tool.main([str(ROOT), str(ROOT), *options, "--output", str(output)]) == 0
    runs = json.loads(output.read_text())["runs"]
    assert {name: len(run["A"]) for name, run in runs.items()} == dict.fromkeys(names, 60)
    options += ["--weights", str(weights), "--output", str(output)]
    assert tool.main([str(ROOT), str(ROOT), *options]) == 0
    assert (
        json.loads(output.read_text())["runs"]["balms_sampler"]["A"] == runs["balms_sampler"]["A"]
    )
    assert sorted(path.stem for path in weights.iterdir()) == names


@pytest.mark.slow
def test_a_checkout_that_trains_otherwise_is_found(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("balms_seg", "configs", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    command = tmp_path / "tools" / "train_net.py"
    command.rename(command.with_name("real_train_net.py"))
    command.write_text(
        "import runpy, sys\n"
        "sys.argv += ['SOLVER.MOMENTUM', '0.90001']\n"
        "runpy.run_path(__file__.replace('train_net', 'real_train_net'), run_name='__main__')\n"
    )
    options = ["--only", "image_balanced_softmax"]
    assert tool.main([str(ROOT), str(tmp_path), *options]) == 1
    # Momentum enters with the second step, so it is the third loss that differs.
    assert "iteration 2, total_loss: " in capsys.readouterr().out.partition("verdict\n")[2]
