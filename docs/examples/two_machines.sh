#!/bin/bash
# Two machines without a scheduler: run this on both, `two_machines.sh 0 HOST` on the first and
# `two_machines.sh 1 HOST` on the second, HOST being the first one's name.
set -eu
rank=$1 host=$2

balms-seg train --config-file configs/lvis_v1/balanced_sigmoid_mask_rcnn_R_50_FPN_1x.yaml \
  --num-machines 2 --machine-rank "$rank" --dist-url "tcp://$host:29500" \
  --num-gpus 8 --resume OUTPUT_DIR output/lvis_v1 \
  SOLVER.IMS_PER_BATCH 32 SOLVER.REFERENCE_IMS_PER_BATCH 16 SOLVER.REFERENCE_WORLD_SIZE 0
