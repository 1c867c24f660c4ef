#!/bin/bash
# The paper's features, then BALMS and its control from them: run this where sbatch is, beside
# slurm_one_machine.sh. The two classifier stages wait for the features and find their weights.
first=$(sbatch --parsable slurm_one_machine.sh \
  lvis_v0.5/paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml)
for name in paper_balms_reweighter paper_classifier_balanced_sigmoid; do
  sbatch --dependency="afterok:$first" slurm_one_machine.sh \
    "lvis_v0.5/${name}_mask_rcnn_R_50_FPN.yaml"
done
