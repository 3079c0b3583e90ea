#!/bin/sh
# Plants bugs in a copy of the library, one at a time, and runs the tests that should notice.
# Each bug must turn a test red, or the tests show nothing.
#
#     tests/mutants.sh            all of them: half an hour
#     tests/mutants.sh NAME...    those whose names contain one of these
#
# Not part of the normal run. First the tests are run without a bug: they must be green.
# Prints a line for each bug, and fails if one went unnoticed, or could not be planted. What was
# changed, and what the tests said, is in target/mutants/log.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
# A place of its own, always the same: cargo takes a package of the same name in its
# workspace for the same one, and would mix what is built of two of them.
target=${CARGO_TARGET_DIR:-$root/target}/mutants
copy=$target/source
log=$target/log
rm -rf "$copy" "$log"
mkdir -p "$copy" "$log"
cp -R "$root/Cargo.toml" "$root/Cargo.lock" "$root/README.md" "$root/src" "$root/tests" \
    "$root/bin" "$root/benches" "$root/docs" "$copy"
cp -R "$copy/src" "$copy/sound"

# NAME | file | what is there (perl) | what is put there | test binary, and which of its tests should notice
mutants() {
    cat <<'END'
END
}

# Builds, or runs, some tests of the copy; what they say is in $log/output. Without the command line,
# which none of them needs. Finer steps than in the normal run: some bugs last for a few
# instructions only. What a test that has failed leaves behind is ended: `timeout` leads a group.
cargo_test() {
    (cd "$copy" && CARGO_TARGET_DIR="$target" SLOTFILE_STRIDE=7 exec timeout 300 \
        cargo test -q --no-default-features --features tokio "$@" </dev/null >"$log/output" 2>&1) &
    group=$! code=0
    wait "$group" || code=$?
    kill -KILL "-$group" 2>/dev/null || true
    return "$code"
}
option() { case $1 in lib) echo --lib ;; *) echo "--test=$1" ;; esac; }
failed() {
    echo "$1"
    touch "$copy/failed"
}

is_chosen() {
    [ -n "$chosen" ] || return 0
    for part in $chosen; do case $1 in *"$part"*) return 0 ;; esac; done
    return 1
}
chosen=$*
mutants | while IFS='|' read -r name rest; do
    if is_chosen "$name"; then printf "%s\n" "$name|$rest"; fi
done >"$copy/rows"
count=$(wc -l <"$copy/rows")
[ "$count" -gt 0 ] || { echo "there is none of that name" >&2; exit 1; }

sed 's/.*|//' "$copy/rows" | sort -u >"$copy/tests-named"
echo "without a bug:"
while read -r binary tests; do
    if ! cargo_test "$(option "$binary")" "$tests"; then
        cp "$log/output" "$log/sound $binary $tests"
        failed "$binary $tests: RED without a bug"
    elif ! grep -q '^test result: ok. [1-9]' "$log/output"; then
        failed "$binary $tests: THERE IS NO SUCH TEST"
    else
        echo "$binary $tests: green"
    fi
done <"$copy/tests-named"

number=0
while IFS='|' read -r name file from to binary_and_tests; do
    number=$((number + 1))
    sound=$copy/sound/$file planted=$copy/src/$file
    perl -0777 -pi -e "s~$from~$to~gs" "$planted"
    if diff "$sound" "$planted" >"$log/$name"; then
        failed "[$number/$count] $name: CANNOT BE PLANTED any more: the source has changed"
        continue
    fi
    binary=$(option "${binary_and_tests%% *}") tests=${binary_and_tests#* }
    if ! cargo_test "$binary" --no-run; then
        failed "[$number/$count] $name: DOES NOT COMPILE"
        grep -m 3 '^error' "$log/output" || true
    elif cargo_test "$binary" "$tests" -- --nocapture; then
        failed "[$number/$count] $name: UNNOTICED by $binary_and_tests"
    else
        cat "$log/output" >>"$log/$name"
        test=$(sed -n '/^failures:$/,$s/^    \(.*\)$/\1/p' "$log/output" | head -1)
        echo "[$number/$count] $name: caught by ${test:-$binary_and_tests, which did not end well}"
        # What the first to fail says, which may be a child of the test.
        grep -m 1 -A 1 'panicked at' "$log/output" | cut -c1-160 | sed 's/^/    /' || true
    fi
    cp "$sound" "$planted"
done <"$copy/rows"
test ! -e "$copy/failed"
