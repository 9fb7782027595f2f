#!/usr/bin/env bash
# Runs the rows of the published INFERENCE.md with their published settings.
#
#   ./eval.sh                        all 33 rows
#   ./eval.sh D17_val MOSE_val       all rows of these benchmarks
#   ./eval.sh D17_val/s012           this row
#
# data_root=..      the folder of DAVIS/, YouTubeVOS-2018/, VOST/, ... (docs/benchmarks.md has the layouts)
# output=./output   masks go to $output/<stage>-<DATASET>_<split>, with a zip where a server takes one
#                   (both begin where you are; those that are not given, at this script's folder)
# flags=            more flags of eval.py, e.g. flags="--device cuda:1 --precision float32"
#
# Checkpoints are taken from checkpoints/ (see checkpoints/download_checkpoint.sh), else fetched once into the cache.
# A row that was cut off goes on with its unfinished videos; a row that fails does not stop the others.
# `jointformer reproduce` does the same, and scores and compares with the published figures.
set -uo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"

from_here() { # path as the caller means it
    case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac
}
[ -z "${data_root:-}" ] || data_root=$(from_here "$data_root")
[ -z "${output:-}" ] || output=$(from_here "$output")
data_root="${data_root:-..}"
output="${output:-./output}"
python="${PYTHON:-python}"
failed=()
matched=0

run() { # dataset split max_memory_frames topk_num stage...
    local dataset=$1 split=$2 max_memory_frames=$3 topk_num=$4 stage
    shift 4
    for stage in "$@"; do
        wanted "${dataset}_${split}" "$stage" || continue
        matched=$((matched + 1))
        local model="checkpoints/jointformer_${stage}.pth"
        [ -f "$model" ] || model="$stage"
        # shellcheck disable=SC2086  # flags is a list of words
        "$python" eval.py \
            --model "$model" \
            --data_root "$data_root" \
            --output "$output/${stage}-${dataset}_${split}" \
            --dataset "$dataset" \
            --split "$split" \
            --max_memory_frames "$max_memory_frames" --topk_num "$topk_num" ${flags:-} \
            || { [ $? -ne 130 ] || exit 130; failed+=("${dataset}_${split}/${stage}"); }
    done
}

wanted() { # benchmark stage
    [ "${#only[@]}" -eq 0 ] && return 0
    local name
    for name in "${only[@]}"; do
        [ "$name" = "$1" ] || [ "$name" = "$1/$2" ] && return 0
    done
    return 1
}

only=("$@")
run D17   val  1 60  s2 s02 s012
run D17   test 1 60  s2 s02 s012
run Y18   val  3 120 s2 s02 s012
run Y19   val  3 120 s2 s02 s012
run VOST  val  3 30  s24 s024
run MOSE  val  3 180 s5 s05 s015
run LVOS  val  3 120 s02 s012 s026 s0126
run LVOS  test 3 120 s02 s012 s026 s0126
run VISOR val  1 600 s7 s07
run BURST val  3 30  s2 s02 s012
run BURST test 3 30  s2 s02 s012

if [ "$matched" -eq 0 ]; then
    echo "eval.sh: no such row: ${only[*]} (D17_val, D17_val/s012, ...)" >&2
    exit 2
fi
if [ "${#failed[@]}" -gt 0 ]; then
    echo "eval.sh: ${#failed[@]} of $matched rows failed: ${failed[*]}" >&2
    exit 1
fi
