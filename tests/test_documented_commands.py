"""Every command line in the documents is understood; test_documented_runs.py runs them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from documented_commands import DOCUMENTS, FOREIGN, ROOT, commands_of, parse

from balms_seg.engine import load_config


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_is_understood(document: str) -> None:
    for command in commands_of(document):
        if command[0] == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert command[1] in targets
        elif command[0] not in FOREIGN:
            args = parse(command)
            config = str(getattr(args, "config_file", None) or "")
            if config and (ROOT / config).is_file():
                load_config(ROOT / config, args.opts)  # whose keys exist and agree


@pytest.mark.parametrize("script", [name for name in DOCUMENTS if name.endswith(".sh")])
def test_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
    submitted = re.search(r"^script=.*?(slurm_\w+\.sh)", (ROOT / script).read_text(), re.MULTILINE)
    if submitted:  # what it hands over is a script of its own
        script = str(Path(script).with_name(submitted[1]))
    assert any(command[:2] == ["balms-seg", "train"] for command in commands_of(script))


def test_keys_given_to_both_stages_reach_the_first_alone(tmp_path: Path) -> None:
    """With an sbatch that writes down its words."""
    calls = tmp_path / "calls"
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "$@" >> {calls}\necho 7\n')
    sbatch.chmod(0o755)
    script = ROOT / "docs" / "examples" / "slurm_two_stages.sh"
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ["bash", str(script), "MODEL.WEIGHTS", "R-50.pkl"]
    subprocess.run(words, check=True, cwd=tmp_path, env=paths, stdout=subprocess.DEVNULL)
    first, *second = calls.read_text().splitlines()
    assert first.endswith("paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml MODEL.WEIGHTS R-50.pkl")
    assert len(second) == 2
    for line in second:
        assert line.startswith(f"--dependency=afterok:7 {script.parent}/slurm_one_machine.sh lvis")
        assert line.endswith("_mask_rcnn_R_50_FPN.yaml")


def test_configurations_that_scripts_name_are_there() -> None:
    for path in (ROOT / "docs" / "examples").glob("*.sh"):
        text = path.read_text()
        for name in re.findall(r"lvis_v[\d.]+/[\w${}]+\.yaml", text):
            listed = re.findall(r"for name in (.*?);", text)
            for value in listed[0].split() if "$" in name else [""]:
                assert (ROOT / "configs" / name.replace("${name}", value)).is_file(), name


def test_the_documents_have_commands() -> None:
    """The pattern that finds them still does."""
    found = {document: len(commands_of(document)) for document in DOCUMENTS}
    assert found["README.md"] >= 12
    assert found["docs/own_data.md"] >= 8
    assert sum(found.values()) >= 40


@pytest.mark.parametrize("name", ["slurm_one_machine.sh", "slurm_two_machines.sh"])
def test_srun_is_given_the_cores_of_the_job_and_what_was_asked_for(
    name: str, tmp_path: Path
) -> None:
    """With stand-ins that write down what they are given."""
    told = tmp_path / "told"
    for command, does in {
        "srun": f'echo "$SRUN_CPUS_PER_TASK $DETECTRON2_DATASETS $@" > {told}',
        "scontrol": "echo first",
    }.items():
        (tmp_path / command).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / command).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_CPUS_PER_TASK": "24",
        "SLURM_GPUS_ON_NODE": "4",
        "DETECTRON2_DATASETS": "/elsewhere",
    }
    script = ROOT / "docs" / "examples" / name
    words = ["lvis_v1/softmax.yaml", "SEED", "2"]
    subprocess.run(["bash", script, *words], env=environment, check=True, cwd=tmp_path, timeout=20)
    assert told.read_text().startswith("24 /elsewhere ")
    assert "--num-gpus 4 " in told.read_text()
    assert "--config-file lvis_v1/softmax.yaml" in told.read_text()
    assert "SEED 1 SEED 2" in told.read_text()  # the last one counts
