"""Every command line in the documents is understood; test_documented_runs.py runs them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from documented_commands import DOCUMENTS, FOREIGN, ROOT, commands_of, parse

from balms_seg.engine import load_config

EXAMPLES = ROOT / "docs" / "examples"


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


def submitted_stages(folder: Path, *words: str, **variables: str) -> list[str]:
    """What slurm_two_stages.sh gives an sbatch that writes down its words."""
    calls = folder / "calls"
    sbatch = folder / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "$@" >> {calls}\necho "7;cluster"\n')
    sbatch.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **variables}
    command = ["bash", str(EXAMPLES / "slurm_two_stages.sh"), *words]
    done = subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)
    told = "paper_balms_reweighter: 7\npaper_classifier_balanced_sigmoid: 7\n"
    assert done.stdout.decode() == f"The features are job 7; two jobs wait for it:\n{told}"
    return calls.read_text().splitlines()


def test_keys_given_to_both_stages_reach_the_first_alone(tmp_path: Path) -> None:
    first, *second = submitted_stages(
        tmp_path, "MODEL.WEIGHTS", "R-50.pkl", SBATCH_OPTIONS="--partition=gpu --account=me"
    )
    options = f"--partition=gpu --account=me {EXAMPLES}/slurm_one_machine.sh lvis"
    assert first.startswith(f"--parsable {options}")
    assert first.endswith("paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml MODEL.WEIGHTS R-50.pkl")
    assert len(second) == 2
    for line in second:
        waits = "--parsable --dependency=afterok:7 --kill-on-invalid-dep=yes"
        assert line.startswith(f"{waits} {options}")
        assert line.endswith("_mask_rcnn_R_50_FPN.yaml")
    with pytest.raises(subprocess.CalledProcessError):  # both would mix two seeds
        submitted_stages(tmp_path, "MODEL.WEIGHTS", "R-50.pkl", "SEED", "2")


def test_keys_of_the_environment_reach_all_three(tmp_path: Path) -> None:
    calls = submitted_stages(tmp_path, "MODEL.MASK_ON", "False", ALL_KEYS="SOLVER.STEPS ()")
    assert [call.partition(".yaml ")[2] for call in calls] == [
        "SOLVER.STEPS () MODEL.MASK_ON False",
        "SOLVER.STEPS ()",
        "SOLVER.STEPS ()",
    ]


def test_another_seed_has_stages_of_its_own(tmp_path: Path) -> None:
    """Folders and weights as docs/lvis.md gives them for the same by hand."""
    calls = submitted_stages(tmp_path, SEED="2")
    keys = [re.sub(r".*lvis_v0.5/(\S+) ", r"\1 ", call) for call in calls]
    features = "SEED 2 MODEL.WEIGHTS output/seed2/features/model_final.pth OUTPUT_DIR output/seed2"
    assert keys == [
        "paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml SEED 2 OUTPUT_DIR output/seed2/features",
        f"paper_balms_reweighter_mask_rcnn_R_50_FPN.yaml {features}/paper_balms_reweighter",
        "paper_classifier_balanced_sigmoid_mask_rcnn_R_50_FPN.yaml "
        f"{features}/paper_classifier_balanced_sigmoid",
    ]
    by_hand = [" ".join(words) for words in commands_of("docs/lvis.md")]
    for call in keys:
        name, _, settings = call.partition(" ")
        assert any(f"/{name} --num-gpus 8 {settings}" in line for line in by_hand), call


def test_configurations_that_scripts_name_are_there() -> None:
    for path in EXAMPLES.glob("*.sh"):
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
    told = told_srun(EXAMPLES / name, tmp_path, "lvis_v1/softmax.yaml", "SEED", "2")
    assert told.startswith("24 /elsewhere ")
    assert "--num-gpus 4 " in told
    assert "--config-file lvis_v1/softmax.yaml" in told
    assert "--resume SEED 1 SEED 2" in told  # the last one counts


def test_the_options_for_fewer_gpus_keep_the_cores_of_each() -> None:
    text = (EXAMPLES / "slurm_one_machine.sh").read_text()
    asked = re.findall(r"--gpus-per-node=(\d+) --cpus-per-task=(\d+)", text)
    assert {int(gpus): int(cores) / int(gpus) for gpus, cores in asked} == {1: 6, 4: 6, 8: 6}


def test_a_job_evaluates_where_the_flag_says_so(tmp_path: Path) -> None:
    words = ["lvis_v1/softmax.yaml", "MODEL.WEIGHTS", "a.pth"]
    told = told_srun(EXAMPLES / "slurm_one_machine.sh", tmp_path, *words, BALMS_FLAG="--eval-only")
    assert "--num-gpus 4 --eval-only SEED 1 MODEL.WEIGHTS a.pth" in told


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["configs/lvis_v1/softmax.yaml"], "output/lvis_v1/softmax"),
        (["/tmp/my/own.yaml", "SEED", "2"], "output/own"),
        (["own.yaml"], "/shared/own"),
        (["own.yaml", "OUTPUT_DIR", "/shared/run", "SEED", "2"], "/shared/run"),
    ],
)
def test_two_machines_write_where_the_key_says(
    words: list[str], folder: str, tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text('OUTPUT_DIR: "/shared/own"  # seen by both\n')
    told = told_srun(EXAMPLES / "slurm_two_machines.sh", tmp_path, *words)
    assert told.rstrip().endswith(f"OUTPUT_DIR {folder}")


def told_srun(script: Path, folder: Path, *words: str, **variables: str) -> str:
    """What a script gives an srun that writes it down, behind two variables."""
    told = folder / "told"
    for command, does in {
        "srun": f'echo "$SRUN_CPUS_PER_TASK $DETECTRON2_DATASETS $@" > {told}',
        "scontrol": "echo first",
    }.items():
        (folder / command).write_text(f"#!/bin/sh\n{does}\n")
        (folder / command).chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_CPUS_PER_TASK": "24",
        "SLURM_GPUS_ON_NODE": "4",
        "DETECTRON2_DATASETS": "/elsewhere",
        **variables,
    }
    subprocess.run(["bash", script, *words], env=environment, check=True, cwd=folder, timeout=20)
    return told.read_text()
