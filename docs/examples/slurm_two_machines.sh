#!/bin/bash
# Two machines of 8 GPUs: sbatch slurm_two_machines.sh [CONFIG [KEY VALUE ...]]; of 4: sbatch
# --gpus-per-node=4 --cpus-per-task=24 slurm_two_machines.sh ... 16 GPUs train twice the batch in half the
# iterations, for the schedules are of 8. Both have to see the data and OUTPUT_DIR: that of the keys,
# or else of the file, or else output/ and its name (without folders where it begins with / or .).
#SBATCH --job-name=balms
#SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 --cpus-per-task=48
# Main memory of a machine, an estimate: docs/clusters.md says what was measured.
#SBATCH --mem=64G
#SBATCH --time=24:00:00 --requeue --signal=TERM@300
#SBATCH --output=slurm-%j.txt --open-mode=append

export DETECTRON2_DATASETS=${DETECTRON2_DATASETS:-~/data}  # where yours are
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # srun does not take it over by itself since Slurm 22.05
# source ~/balms_seg/.venv/bin/activate  # the environment, where the shell has none
config=${1:-lvis_v1/balanced_sigmoid_mask_rcnn_R_50_FPN_1x.yaml}
case $config in [/.]*) name=${config##*/} ;; *) name=${config#configs/} ;; esac
output=$(sed -n "s/^OUTPUT_DIR: *[\"']\?\([^\"'# ]*\).*/\1/p" "$config" 2>/dev/null)
output=${output:-output/${name%.yaml}}
for ((i = 2; i < $#; i += 2)); do
  [ "${!i}" = OUTPUT_DIR ] && value=$((i + 1)) && output=${!value}
done
echo "OUTPUT_DIR is $output"
before=$(cat "$output/last_checkpoint" 2>/dev/null)
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes 2 --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" --rdzv-backend c10d \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29500" -m balms_seg train --config-file "$config" \
  --num-gpus "${SLURM_GPUS_ON_NODE:-8}" --resume SEED 1 "${@:2}" OUTPUT_DIR "$output"
code=$?
# torchrun has a code of its own when its ranks are stopped: it goes on if there is more than before.
[ $code -ne 0 ] && [ "$(cat "$output/last_checkpoint" 2>/dev/null)" != "$before" ] &&
  exec scontrol requeue "$SLURM_JOB_ID"
exit $code
