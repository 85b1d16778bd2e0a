#!/usr/bin/env bash
# Whether the tests of the quorum engine find the bugs that are in it on purpose (lease/src/quorum/plant.rs): without a bug all of
# them pass, and with each bug the test named here fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

export RUSTC_WORKSPACE_WRAPPER="$PWD/ci/rustc-plant"
bugs=(
    'unconditional write-back|a_token_is_written_back_only_while_the_lock_is_held'
    'majority of n/2|a_minority_of_the_nodes_grants_nothing'
    'greater values count|a_node_that_granted_a_greater_value_does_not_count'
    'no write-back|a_token_exceeds_those_of_all_majorities_before'
    'renewal by upsert|a_renewal_grants_no_lock'
    'no configuration hash|clients_with_another_list_of_nodes_are_refused'
)

run() { cargo test -q -p latchwork-lease --features redis --test quorum -- --exact "$@"; }

tests=()
for bug in "${bugs[@]}"; do tests+=("${bug#*|}"); done
run "${tests[@]}"
for bug in "${bugs[@]}"; do
    if LATCHWORK_PLANT=${bug%|*} run "${bug#*|}"; then
        echo "lease_plants.sh: ${bug#*|} passes with the bug '${bug%|*}'" >&2
        exit 1
    fi
    echo "lease_plants.sh: '${bug%|*}' fails ${bug#*|}"
done
echo "lease_plants.sh: ${#bugs[@]} bugs found"
