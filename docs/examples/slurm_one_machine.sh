#!/bin/bash
# One machine, of 8 GPUs unless you ask for others: sbatch slurm_one_machine.sh [CONFIG [KEY VALUE ...]];
# of 4: sbatch --gpus-per-node=4 --cpus-per-task=24 --mem=32G slurm_one_machine.sh ...; one GPU: sbatch
# --gpus-per-node=1 --cpus-per-task=6 --mem=16G slurm_one_machine.sh ... The job goes on by itself after its time limit.
# BALMS_FLAG=--eval-only sbatch slurm_one_machine.sh CONFIG MODEL.WEIGHTS FILE OUTPUT_DIR FOLDER evaluates.
# Submit it from the folder where output/ lies, or is to lie.
#SBATCH --job-name=balms
#SBATCH --nodes=1 --ntasks=1 --gpus-per-node=8 --cpus-per-task=48
# Main memory of a machine, an estimate: docs/clusters.md says what was measured.
#SBATCH --mem=64G
#SBATCH --time=24:00:00 --requeue --signal=USR1@300
#SBATCH --output=slurm-%j.txt --open-mode=append

export DETECTRON2_DATASETS=${DETECTRON2_DATASETS:-~/data}  # where yours are
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # srun does not take it over by itself since Slurm 22.05
# source ~/balms_seg/.venv/bin/activate  # the environment, where the shell has none
config=${1:-lvis_v1/balanced_sigmoid_mask_rcnn_R_50_FPN_1x.yaml}
srun balms-seg train --config-file "$config" --num-gpus "${SLURM_GPUS_ON_NODE:-8}" \
  "${BALMS_FLAG:---resume}" SEED 1 "${@:2}"
code=$?
# 75: told to stop 300 seconds before the limit, and a checkpoint is written.
[ $code -eq 75 ] && exec scontrol requeue "$SLURM_JOB_ID"
exit $code
