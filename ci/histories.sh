#!/usr/bin/env bash
# Histories of real threads, with a random yield before one atomic access in eight, each checked for an order.
#
#   ci/histories.sh TIMES    runs every test TIMES times, each time with other numbers, and logs it in
#                            ci/campaigns/histories.jsonl
#
# LATCHWORK_SEED is the first number; else it is made from the time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
unset LATCHWORK_PLANT

if [[ ! ${1-} =~ ^[1-9][0-9]*$ ]]; then
    sed -n '2,/^set/{/^# \?/s///p}' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
seed=${LATCHWORK_SEED-$(date +%s)000}
binaries=$(RUSTFLAGS="--cfg latchwork_noise --cfg latchwork_plant -D warnings" cargo test -p latchwork --release --target-dir target/noise \
    --test histories --test txn_histories --no-run --message-format=json |
    python3 -c 'import json, sys
for line in sys.stdin:
    print(*filter(None, [json.loads(line).get("executable")]))' | sed '/^$/d')
for binary in $binaries; do
    tests=$("$binary" --list --format terse 2>/dev/null | sed -n 's/: test$//p' | grep -v -e '^plants::' -e '^transactions_that')
    for test in $tests; do
        start=$(date +%s)
        amount=0
        log=(ci/campaign_log histories --target "$test" --unit operations --since "$start" --set "seed=$seed")
        for ((time = 0; time < $1; time++)); do
            if ! said=$(LATCHWORK_SEED=$((seed + 100 * time)) "$binary" "$test" --exact --nocapture 2>&1); then
                echo "$said" | tail -40
                "${log[@]}" --amount "$amount" --outcome found --finding "LATCHWORK_SEED=$((seed + 100 * time)); open"
                exit 1
            fi
            amount=$((amount + $(sed -n 's/.*[^0-9]\([0-9][0-9]*\) operations.*/\1/p' <<<"$said" | head -1)))
        done
        "${log[@]}" --amount "$amount" --outcome clean
        echo "$test: $amount operations, clean, $(($(date +%s) - start)) s"
    done
done
