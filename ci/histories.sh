#!/usr/bin/env bash
# Histories of real threads, with a random yield before one atomic access in eight, each checked for an order.
#
#   ci/histories.sh TIMES [TEST...]    runs each test (all) TIMES times, each time with other numbers, and logs it in
#                                      ci/campaigns/histories.jsonl
#   ci/histories.sh --list             which tests there are
#
# LATCHWORK_SEED is the first number; else it is made from the time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

usage() {
    sed -n '2,/^set/{/^# \?/s///p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# `BINARY TEST NAME` of every test that records histories, NAME being without its module.
targets() {
    local binary
    RUSTFLAGS="--cfg latchwork_noise -D warnings" cargo test -p latchwork --release \
        --target-dir target/noise --test histories --no-run --message-format=json |
        python3 -c 'import json, sys
for line in sys.stdin:
    print(*filter(None, [json.loads(line).get("executable")]))' | sed '/^$/d' | while read -r binary; do
        "$binary" --list --format terse 2>/dev/null | sed -n 's/: test$//p' |
            awk -v binary="$binary" -F:: 'NF == 2 && /^(calls|transactions)::/ && !/::transactions_that/ { print binary, $0, $2 }'
    done
}

if [[ ${1-} == --list ]]; then
    targets | cut -d' ' -f3
    exit
fi
[[ ${1-} =~ ^[1-9][0-9]*$ ]] || usage
times=$1
shift
seed=${LATCHWORK_SEED-$(date +%s)000}
all=$(targets)
for test in ${*:-$(cut -d' ' -f3 <<<"$all")}; do
    read -r binary path < <(awk -v test="$test" '$3 == test { print $1, $2 }' <<<"$all") || true
    [[ -n $binary ]] || { echo "histories.sh: there is no test '$test'; --list names them" >&2; exit 2; }
    start=$(date +%s)
    amount=0
    log=(ci/campaign_log histories --target "$test" --unit operations --since "$start" --set "seed=$seed")
    for ((time = 0; time < times; time++)); do
        if ! said=$(LATCHWORK_SEED=$((seed + 100 * time)) "$binary" "$path" --exact --nocapture 2>&1); then
            echo "$said" | tail -40
            "${log[@]}" --amount "$amount" --outcome found --finding "LATCHWORK_SEED=$((seed + 100 * time)); open"
            exit 1
        fi
        amount=$((amount + $(sed -n 's/.*[^0-9]\([0-9][0-9]*\) operations.*/\1/p' <<<"$said" | head -1)))
    done
    "${log[@]}" --amount "$amount" --outcome clean
    echo "$test: $amount operations, clean, $(($(date +%s) - start)) s"
done
