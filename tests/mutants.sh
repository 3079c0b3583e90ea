#!/bin/sh
# Plants bugs in the library, one at a time, and runs the tests that should notice. Each bug must
# turn a test red, or the tests show nothing.
#
#     tests/mutants.sh            all of them: half an hour
#     tests/mutants.sh NAME...    those whose names contain one of these
#
# Not part of the normal run. The bugs, and the tests that should notice each, stand in
# src/mutant.rs and src/protocol/mutant.rs. All of them are built at once; the environment says
# which one is there. First the tests are run without a bug: they must be green. Prints a line for
# each bug, and fails if one went unnoticed. What the tests said is in target/mutants/log.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/mutants
log=$target/log
rm -rf "$log"
mkdir -p "$log"

# Lines of NAME BINARY FILTER.
sed -n 's/^ *\([A-Za-z0-9]*\) => "\(.*\)",$/\1 \2/p' src/mutant.rs src/protocol/mutant.rs |
    grep -E "^[^ ]*($(echo "${*:-.}" | tr ' ' '|'))" >"$log/bugs" ||
    { echo "there is none of that name" >&2; exit 1; }
count=$(wc -l <"$log/bugs")

# Without the command line, which none of the tests needs.
binaries=$(cut -d ' ' -f 2 "$log/bugs" | sort -u | sed 's/.*/--test=&/; s/--test=lib/--lib/')
RUSTFLAGS="${RUSTFLAGS-} --cfg planted" CARGO_TARGET_DIR=$target \
    cargo test --no-run --no-default-features --features tokio $binaries 2>"$log/build" ||
    { cat "$log/build" >&2; exit 1; }
program() {
    case $1 in lib) source=src/lib.rs ;; *) source=tests/$1/main.rs ;; esac
    sed -n "s:.*Executable.* $source (\(.*\)):\1:p" "$log/build"
}

# run BUG BINARY FILTER: what the tests say is in $output. Finer steps than in the normal run: some
# bugs last for a few instructions only. What a test that has failed leaves behind is ended:
# `timeout` leads a group.
run() {
    output="$log/$1 $2 $3"
    SLOTFILE_PLANTED=$1 SLOTFILE_STRIDE=7 timeout 300 \
        "$(program "$2")" "$3" --nocapture </dev/null >"$output" 2>&1 &
    group=$! code=0
    wait "$group" || code=$?
    kill -KILL "-$group" 2>/dev/null || true
    return "$code"
}
failed() {
    echo "$1"
    touch "$log/failed"
}

echo "without a bug:"
cut -d ' ' -f 2- "$log/bugs" | sort -u >"$log/tests"
while read -r binary filter; do
    if ! run none "$binary" "$filter"; then
        failed "$binary $filter: RED without a bug"
    elif ! grep -q '^test result: ok. [1-9]' "$output"; then
        failed "$binary $filter: THERE IS NO SUCH TEST"
    else
        echo "$binary $filter: green"
        # A test that cannot run here notices nothing.
        grep -o 'skipped: .*' "$output" || true
    fi
done <"$log/tests"

number=0
while read -r bug binary filter; do
    number=$((number + 1))
    if run "$bug" "$binary" "$filter"; then
        failed "[$number/$count] $bug: UNNOTICED by $binary $filter"
    else
        test=$(sed -n '/^failures:$/,$s/^    \(.*\)$/\1/p' "$output" | head -1)
        echo "[$number/$count] $bug: caught by ${test:-$binary $filter, which did not end well}"
        # What the first to fail says, which may be a child of the test.
        grep -m 1 -A 1 'panicked at' "$output" | cut -c1-160 | sed 's/^/    /' || true
    fi
done <"$log/bugs"
test ! -e "$log/failed"
