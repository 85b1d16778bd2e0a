#!/usr/bin/env bash
# Random schedules of tasks, under shuttle, with an oracle or a checker of histories inside.
#
#   ci/schedules.sh COUNT [TEST...]         COUNT schedules of each test (of all), logged in ci/campaigns/shuttle.jsonl
#   ci/schedules.sh --replay TEST NUMBER    the one schedule that has this number, again
#   ci/schedules.sh --list                  which tests there are
#
# LATCHWORK_SEED is the number of the first schedule; else it is made from the time, so that each campaign has others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

usage() {
    sed -n '2,/^set/{/^# \?/s///p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# Path of the test binary.
binary() {
    RUSTFLAGS="--cfg latchwork_shuttle -D warnings" cargo test -p latchwork --release \
        --target-dir target/shuttle --test shuttle --no-run --message-format=json |
        python3 -c 'import json, sys
for line in sys.stdin:
    print(*filter(None, [json.loads(line).get("executable")]))' | sed '/^$/d'
}

# `MODULE::TEST TEST` of every test that explores schedules.
targets() {
    "$binary" --list --format terse 2>/dev/null | sed -n "s|: test$||p" |
        awk -F:: 'NF == 2 && !/::a_number_is_a_schedule$/ { print $0, $2 }'
}

binary=$(binary)
case ${1-} in
--list)
    targets | cut -d' ' -f2
    ;;
--replay)
    [[ $# == 3 && $3 =~ ^[0-9]+$ ]] || usage
    path=$(targets | awk -v test="$2" '$2 == test { print $1 }')
    [[ -n $path ]] || { echo "schedules.sh: there is no test '$2'; --list names them" >&2; exit 2; }
    RUST_BACKTRACE=1 LATCHWORK_SCHEDULES=1 LATCHWORK_SEED=$3 "$binary" "$path" --exact --nocapture
    ;;
*)
    [[ ${1-} =~ ^[1-9][0-9]*$ ]] || usage
    count=$1
    shift
    seed=${LATCHWORK_SEED-$(date +%s)000000}
    all=$(targets)
    failed=0
    for test in ${*:-$(cut -d' ' -f2 <<<"$all")}; do
        path=$(awk -v test="$test" '$2 == test { print $1 }' <<<"$all")
        [[ -n $path ]] || { echo "schedules.sh: there is no test '$test'; --list names them" >&2; exit 2; }
        start=$(date +%s)
        status=0
        said=$(LATCHWORK_SCHEDULES=$count LATCHWORK_SEED=$seed "$binary" "$path" --exact --nocapture 2>&1) || status=$?
        log=(ci/campaign_log shuttle --target "$test" --unit schedules --since "$start" --set "seed=$seed")
        if [[ $status == 0 ]] && grep -q "^$test: $count schedules from $seed on" <<<"$said"; then
            "${log[@]}" --amount "$count" --outcome clean
            echo "$test: $count schedules, clean, $(($(date +%s) - start)) s"
        elif number=$(sed -n "s/^$test: schedule \([0-9]*\) fails.*/\1/p" <<<"$said" | head -1) && [[ -n $number ]]; then
            "${log[@]}" --amount $((number - seed + 1)) --outcome found --finding "schedule $number fails; open"
            echo "$said" | grep -v '^$' | tail -40
            failed=1
        else
            echo "$said" | tail -20
            echo "schedules.sh: $test ended with $status and says nothing of schedules" >&2
            exit 1
        fi
    done
    exit "$failed"
    ;;
esac
