#!/bin/bash
# The paper's features, then BALMS and its control from them:
# bash docs/examples/slurm_two_stages.sh [KEY VALUE ...], where output/ is to lie and sbatch is. The
# keys go to the first stage alone, as MODEL.WEIGHTS R-50.pkl does. The two classifier stages wait
# for the features and find their weights. With 4 GPUs:
# SBATCH_GPUS_PER_NODE=4 before it, and 24 as --cpus-per-task of slurm_one_machine.sh.
script=$(dirname "$0")/slurm_one_machine.sh
first=$(sbatch --parsable "$script" \
  lvis_v0.5/paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml "$@")
for name in paper_balms_reweighter paper_classifier_balanced_sigmoid; do
  sbatch --dependency="afterok:$first" "$script" \
    "lvis_v0.5/${name}_mask_rcnn_R_50_FPN.yaml"
done
