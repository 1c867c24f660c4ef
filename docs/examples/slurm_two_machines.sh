#!/bin/bash
# Two machines of 8 GPUs each. OUTPUT_DIR and the data have to be on a disk that both see.
#SBATCH --job-name=balms
#SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 --cpus-per-task=48
#SBATCH --time=24:00:00 --requeue --signal=TERM@300
#SBATCH --output=slurm-%j.txt --open-mode=append

export DETECTRON2_DATASETS=${DETECTRON2_DATASETS:-~/data}  # where yours are
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # srun does not take it over by itself since Slurm 22.05
checkpoint=output/lvis_v1/last_checkpoint
before=$(cat "$checkpoint" 2>/dev/null)
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-endpoint "$first:29500" -m balms_seg train \
  --config-file configs/lvis_v1/balanced_sigmoid_mask_rcnn_R_50_FPN_1x.yaml \
  --num-gpus 8 --resume SEED 1 OUTPUT_DIR output/lvis_v1 \
  SOLVER.IMS_PER_BATCH 32 SOLVER.REFERENCE_IMS_PER_BATCH 16 SOLVER.REFERENCE_WORLD_SIZE 0
code=$?
# torchrun has a code of its own when its ranks are stopped: it goes on if there is more than before.
[ $code -ne 0 ] && [ "$(cat "$checkpoint" 2>/dev/null)" != "$before" ] &&
  exec scontrol requeue "$SLURM_JOB_ID"
exit $code
