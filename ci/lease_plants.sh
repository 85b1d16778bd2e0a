#!/usr/bin/env bash
# Whether the tests of leases find the bugs that are there on purpose (lease/src/plant.rs): without a bug all of them pass, and with
# each bug the test named here fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

export RUSTC_WORKSPACE_WRAPPER="$PWD/ci/rustc-plant"
bugs=(
    'unconditional write-back|quorum|a_token_is_written_back_only_while_the_lock_is_held'
    'majority of n/2|quorum|a_minority_of_the_nodes_grants_nothing'
    'greater values count|quorum|a_node_that_granted_a_greater_value_does_not_count'
    'no write-back|quorum|a_token_exceeds_those_of_all_majorities_before'
    'renewal by upsert|quorum|a_renewal_grants_no_lock'
    'no configuration hash|quorum|clients_with_another_list_of_nodes_are_refused'
    'batches are not split|rules|a_lease_for_which_the_engine_hangs_expires_few_others'
    'releases share no request|sqlite|a_large_set_is_released_in_few_requests'
    'releases that fail are forgotten|rules|releases_that_fail_together_are_repeated_one_by_one'
)

run() { cargo test -q -p latchwork-lease --features redis --test "$1" -- --exact "$2"; }

for bug in "${bugs[@]}"; do
    IFS='|' read -r name target test <<<"$bug"
    run "$target" "$test"
done
for bug in "${bugs[@]}"; do
    IFS='|' read -r name target test <<<"$bug"
    if LATCHWORK_PLANT=$name run "$target" "$test"; then
        echo "lease_plants.sh: $test passes with the bug '$name'" >&2
        exit 1
    fi
    echo "lease_plants.sh: '$name' fails $test"
done
echo "lease_plants.sh: ${#bugs[@]} bugs found"
