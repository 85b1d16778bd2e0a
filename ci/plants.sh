#!/usr/bin/env bash
# Whether the instruments find the bugs that are in the crate on purpose (src/sync/plant.rs): histories of real threads with noise, and
# schedules under shuttle, where the schedule that fails must fail again. ci/test.sh does so too, in its steps noise and shuttle.
#
#   ci/plants.sh          runs them
#   ci/plants.sh --log    and adds them to ci/campaigns
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

run() { # INSTRUMENT CFG TEST...
    local instrument=$1 cfg=$2 start said test log tests=()
    for test in "${@:3}"; do tests+=(--test "$test"); done
    start=$(date +%s)
    log=$(mktemp)
    RUSTFLAGS="--cfg $cfg --cfg latchwork_plant -D warnings" cargo test -p latchwork --release --target-dir "target/${cfg#latchwork_}" \
        "${tests[@]}" plants:: -- --nocapture | tee "$log"
    said=$(sed -n 's/^planted //p' "$log")
    rm -f "$log"
    if [[ -z $said ]]; then
        echo "plants.sh: nothing was planted for $instrument" >&2
        return 1
    fi
    [[ $write == yes ]] || return 0
    while IFS='|' read -r bug by amount unit how; do
        ci/campaign_log "$instrument" --target "$by" --amount "$amount" --unit "$unit" --since "$start" --outcome found \
            --finding "$how" --plant "$bug"
    done <<<"$said"
}

write=no
[[ ${1-} != --log ]] || write=yes
run histories latchwork_noise histories txn_histories
run shuttle latchwork_shuttle shuttle_histories
