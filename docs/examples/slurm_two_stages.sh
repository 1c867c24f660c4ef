#!/bin/bash
# The paper's features, then BALMS and its control from them:
# bash docs/examples/slurm_two_stages.sh [KEY VALUE ...], where output/ is to lie and sbatch is. The
# keys go to the first stage alone, as MODEL.WEIGHTS R-50.pkl does; the two classifier stages wait
# for the features and find their weights. In the environment before it:
#   ALL_KEYS         for all three, as "SOLVER.REFERENCE_WORLD_SIZE 0"
#   SEED=2           all three with another seed, in output/seed2; 1 has the configurations' folders
#   SBATCH_OPTIONS   for each sbatch, as "--partition=gpu --account=me"; with 4 GPUs a machine
#                    "--gpus-per-node=4 --cpus-per-task=24"
script=$(dirname "$0")/slurm_one_machine.sh
for ((i = 1; i <= $#; i += 2)); do
  if [[ ${!i} =~ ^(SEED|OUTPUT_DIR)$ ]]; then
    echo "${!i} would be that of the first stage alone; SEED=2 before bash sets both for all." >&2
    exit 2
  fi
done
features=() classifier=() folder=output/seed$SEED
if [ "${SEED:-1}" != 1 ]; then
  features=(SEED "$SEED" OUTPUT_DIR "$folder/features")
  classifier=(SEED "$SEED" MODEL.WEIGHTS "$folder/features/model_final.pth")
fi
first=$(sbatch --parsable $SBATCH_OPTIONS "$script" \
  lvis_v0.5/paper_feature_sigmoid_mask_rcnn_R_50_FPN_1x.yaml "${features[@]}" $ALL_KEYS "$@") || exit
first=${first%%;*}  # a cluster's name may follow
echo "The features are job $first; two jobs wait for it:"
for name in paper_balms_reweighter paper_classifier_balanced_sigmoid; do
  job=$(sbatch --parsable --dependency="afterok:$first" --kill-on-invalid-dep=yes $SBATCH_OPTIONS \
    "$script" "lvis_v0.5/${name}_mask_rcnn_R_50_FPN.yaml" "${classifier[@]}" \
    ${classifier:+OUTPUT_DIR "$folder/$name"} $ALL_KEYS) || exit
  echo "$name: ${job%%;*}"
done
