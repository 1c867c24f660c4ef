"""All commands: help without torch, errors in one line, the same code behind `tools/`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from balms_seg.commands import command_line
from balms_seg.commands.command_line import errors_in_one_line, main, run_command
from balms_seg.commands.table import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
# What nobody should wait for who asks what a command takes.
HEAVY = {"torch", "torchvision", "detectron2", "matplotlib"}


def test_help_of_every_command_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from balms_seg.commands.command_line import main\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        main([*name.split(), '--help'])\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, name\n"
        "main([])\n"
        f"loaded = {HEAVY!r} & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
    )
    job = subprocess.run(
        [sys.executable, "-c", code, *COMMANDS], cwd=ROOT, capture_output=True, text=True
    )
    assert job.returncode == 0, job.stderr
    for name in COMMANDS:
        assert f"usage: balms-seg {name} " in job.stdout
        assert len(re.findall(rf"^  {name}  +\S.*$", job.stdout, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_how_the_command_is_called(name: str) -> None:
    help_text = command_line.load_command(name).__doc__
    assert f"\nbalms-seg {name}" in help_text
    first = help_text.split("\n")[0]
    assert len(first) <= 100
    assert first.endswith((".", ";"))


def test_tools_call_commands() -> None:
    called = {
        path.stem: re.findall(r'run_command\("(.+)"\)', path.read_text())
        for path in (ROOT / "tools").glob("*.py")
    }
    documented = {
        "train_net",
        "class_statistics",
        "report",
        "visualize_data",
        "evaluate",
        "compare",
    }
    assert documented <= {stem for stem, names in called.items() if names}
    assert {name for names in called.values() for name in names} <= COMMANDS.keys()


def test_training_takes_the_flags_of_detectron2() -> None:
    from argparse import ArgumentParser

    from detectron2.engine import default_argument_parser

    from balms_seg.commands.train import add_arguments

    ours = ArgumentParser()
    add_arguments(ours)
    theirs = vars(default_argument_parser().parse_args([]))
    assert theirs.items() <= vars(ours.parse_args([])).items()
    words = ["--config-file", "f", "--eval-only", "--resume", "--num-gpus", "2", "A.B", "--c"]
    assert ours.parse_args(words).opts == ["A.B", "--c"]


@pytest.mark.parametrize(
    ("name", "words", "values", "keys"),
    [
        (
            *("calibrate", "--config-file f --dataset d --methods norcal tau_norm"),
            *({"methods": ["norcal", "tau_norm"]}, "MODEL.WEIGHTS w A.B c"),
        ),
        (
            "calibrate",
            "--config-file f --dataset d --strengths 1 2",
            {"strengths": [1, 2]},
            "A.B c",
        ),
        (
            "compare-methods",
            "--config-file f --methods LDAM b",
            {"methods": ["LDAM", "b"]},
            "SEED 3",
        ),
        ("train", "--num-gpus 2 --eval-only", {"num_gpus": 2, "eval_only": True}, "A.B c D.E f"),
        (
            "demo",
            "--config-file f --input a.jpg B.JPG --output o --opts",
            {"input": ["a.jpg", "B.JPG"]},
            "A.B c",
        ),
        ("predict", "run A.JPG B.JPG --output o", {"images": ["A.JPG", "B.JPG"]}, ""),
        ("predict", "run --output o A.JPG B.ZIP", {"images": ["A.JPG", "B.ZIP"]}, "A.B c"),
        (
            "predict",
            "run A.JPG --num-gpus 0 --output o",
            {"images": ["A.JPG"], "num_gpus": 0},
            "A.B c SEED 1",
        ),
    ],
)
def test_keys_are_no_values_of_the_flag_before_them(
    name: str, words: str, values: dict, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(command_line.load_command(name), "run", called.append)
    run_command(name, [*words.split(), *keys.split()])
    found = vars(called[0])
    assert {dest: found[dest] for dest in values} == values
    assert found.get("opts", []) == keys.split()


def test_an_unknown_command_names_those_there_are() -> None:
    with pytest.raises(SystemExit, match=r"no command 'trian'; there are train, .*visualize data"):
        main(["trian"])
    with pytest.raises(SystemExit, match="no command 'visualize pictures'"):
        main(["visualize", "pictures"])


def test_a_command_of_two_words_gets_the_rest(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=rf"^visualize results: .*{tmp_path}"):
        main(["visualize", "results", str(tmp_path), "--output", str(tmp_path / "out")])


def test_what_is_wrong_is_one_line() -> None:
    with pytest.raises(SystemExit, match="^evaluate: Expected a json file at .*absent"):
        run_command("evaluate", ["absent.json", "--ground-truth", "absent.json"])


@pytest.mark.parametrize("kind", [ValueError, OSError, RuntimeError, KeyError, ImportError])
def test_errors_that_say_what_to_do_lose_their_traceback(kind: type[Exception]) -> None:
    with pytest.raises(SystemExit, match="^name: do 'this'"), errors_in_one_line("name"):
        raise kind("do 'this'")


def test_an_error_from_elsewhere_says_how_to_see_where(monkeypatch: pytest.MonkeyPatch) -> None:
    hint = r"^name: invalid .*\(BALMS_SEG_TRACEBACK=1 shows where\)"
    with pytest.raises(SystemExit, match=hint), errors_in_one_line("name"):
        int("x")
    monkeypatch.setenv("BALMS_SEG_TRACEBACK", "1")
    with pytest.raises(ValueError, match="invalid literal"), errors_in_one_line("name"):
        int("x")


def test_an_error_of_this_package_carries_no_hint() -> None:
    from balms_seg.losses._checks import check_reduction

    with pytest.raises(SystemExit) as end, errors_in_one_line("name"):
        check_reduction("median")
    assert "TRACEBACK" not in str(end.value)


def test_a_mistake_in_the_code_keeps_its_traceback() -> None:
    with pytest.raises(TypeError), errors_in_one_line("name"):
        len(3)
