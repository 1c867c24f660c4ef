#!/bin/bash
# Two machines of 8 GPUs without a scheduler: run this on both, `two_machines.sh 0 HOST [CONFIG [KEY
# VALUE ...]]` on the first and the same with 1 on the second, HOST being the first one's name. 16
# GPUs train twice the batch in half the iterations, for the schedules are of 8.
set -eu
rank=$1 host=$2

config=${3:-lvis_v1/balanced_sigmoid_mask_rcnn_R_50_FPN_1x.yaml}
balms-seg train --config-file "$config" --num-machines 2 --machine-rank "$rank" \
  --dist-url "tcp://$host:29500" --num-gpus 8 --resume SEED 1 "${@:4}"
