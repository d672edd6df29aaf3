#!/usr/bin/env bash
# Everything that only a GPU can tell, in a quarter of an hour, on a machine that has Python and this repository:
#
#     benchmarks/gpu_quarter_hour.sh OUT [setting for train_lora.py ...]
#
# OUT gets a log for each part, and what it made, in files below 16 MiB. Each part has its own time, and the others go on
# without one that fails. Settings are variables, such as MINUTES=4 RECIPE=free; those of the training follow OUT.
# ONLY="environment pages train" leaves out all other parts.
#
# CARRIED is a folder for machines without a network, with any of: wheels/*.whl, installed beside the Python that has
# PyTorch; fonts/ and photos/, for the pages; data/NAME, FTSR data sets to train on beside those that are made.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=$(mkdir -p "${1:?Usage: $0 OUT [setting ...]}" && cd "$1" && pwd)
shift
export CARRIED=${CARRIED:-$PWD/carried} WORK=${WORK:-$PWD/runs/gpu_quarter_hour}
CONFIG=${CONFIG:-tiny_wide} RECIPE=${RECIPE:-tiny} PAGES=${PAGES:-8000} SIZE=${SIZE:-512} MINUTES=${MINUTES:-5}
export TOY=${TOY:-} # for a rehearsal without a GPU: any word
mkdir -p "$WORK"
export HF_HOME=$WORK/huggingface HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1

# part NAME SECONDS COMMAND ...: run it, and say in one line how it ended.
part() {
    local name=$1 limit=$2 began=$SECONDS code
    shift 2
    [[ " ${ONLY:-$name} " == *" $name "* ]] || return 0
    timeout --kill-after 10 "$limit" "$@" > "$WORK/$name.log" 2>&1
    code=$?
    tail -c 4M "$WORK/$name.log" > "$OUT/$name.log"
    case $code in
        0) echo "$name: done in $((SECONDS - began)) s" ;;
        124 | 137) echo "$name: stopped after its $limit s" ;;
        *) echo "$name: FAILED ($code) after $((SECONDS - began)) s: $(grep -v '^ *$' "$WORK/$name.log" | tail -n 1 | cut -c 1-200)" ;;
    esac
    return "$code"
}

part environment "${ENVIRONMENT_LIMIT:-120}" bash benchmarks/gpu_environment.sh || cat "$OUT/environment.log"
export PATH=$WORK/venv/bin:$PATH PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

# The processors make pages, and meanwhile the GPU has the tests and SDXL.
folders=()
for kind in fonts photos; do [ -d "$CARRIED/$kind" ] && folders+=("--$kind" "$CARRIED/$kind"); done
part pages "${PAGES_LIMIT:-200}" python -m tadisr synthesize -o "$WORK/pages" --recipe "$RECIPE" --num "$PAGES" \
    --size "$SIZE" "${folders[@]}" &
pages=$!
# shellcheck disable=SC2086 - several words each
part tests "${TESTS_LIMIT:-120}" python -m pytest -m gpu -rf -p no:cacheprovider ${TESTS:-}
part sdxl "${SDXL_LIMIT:-90}" python benchmarks/gpu_sdxl.py ${TOY:+--toy --device cpu --sizes 64 --rounds 1}
wait "$pages"

# shellcheck disable=SC2046 - a word each
part train "${TRAIN_LIMIT:-$((60 * MINUTES + 150))}" python benchmarks/gpu_training.py --minutes "$MINUTES" \
    ${TOY:+--warm 1 --count 1} --config "$CONFIG" --output_dir "$WORK/run" --device_pages true \
    --train_data_dir "$WORK/pages" $(compgen -G "$CARRIED/data/*") --validation_data_dir "$WORK/pages" "$@"
part parts "${PARTS_LIMIT:-60}" python benchmarks/parts.py "$WORK/run/weights" --data "$WORK/pages" --num "$([ "$TOY" ] && echo 2 || echo 40)"
part release "${RELEASE_LIMIT:-30}" python training/tiny/release.py "$WORK/run/weights" "$WORK/weights" && [ -d "$WORK/weights" ] &&
    tar -C "$WORK" -c weights | split -b 15M - "$OUT/weights.tar." # cat weights.tar.* | tar x
cp "$WORK/run/log.jsonl" "$WORK"/run/validation/*.jpg "$OUT" 2> /dev/null
echo "All is in $OUT"
