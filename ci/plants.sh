#!/usr/bin/env bash
# Whether the instruments find the bugs that are in the crate on purpose (src/sync/plant.rs): histories of real threads with noise,
# schedules under shuttle, where the schedule that fails must fail again, and the inputs of the fuzz targets. ci/test.sh does so too, in its
# steps noise, shuttle and fuzz.
#
#   ci/plants.sh          runs them
#   ci/plants.sh --log    and adds them to ci/campaigns
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

run() { # INSTRUMENT FLAGS ARGUMENT...
    local instrument=$1 start said log
    start=$(date +%s)
    log=$(mktemp)
    RUSTFLAGS="$2 --cfg latchwork_plant -D warnings" cargo test --release "${@:3}" plants:: -- --nocapture | tee "$log"
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
run histories '--cfg latchwork_noise' -p latchwork --target-dir target/noise --test histories --test txn_histories
run shuttle '--cfg latchwork_shuttle' -p latchwork --target-dir target/shuttle --test shuttle_histories
run fuzz '' --manifest-path fuzz/Cargo.toml --no-default-features --target-dir fuzz/target/plant
