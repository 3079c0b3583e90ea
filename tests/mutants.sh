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
    "$root/bin" "$root/benches" "$copy"
cp -R "$copy/src" "$copy/sound"

# NAME | file | what is there (perl) | what is put there | test binary, and which of its tests should notice
mutants() {
    cat <<'END'
commit-before-fill|protocol/lock.rs|planted!\(CommitEarly\)|true|single_step array_update
burial-keeps-the-version|protocol/mod.rs|planted!\(BurialKeepsVersion\)|true|single_step half_written
stale-noted-late|protocol/lock.rs|planted!\(NoteStaleLate\)|true|single_step array_update
the-current-area-not-noted-as-stale|protocol/lock.rs|planted!\(CurrentNotStale\)|true|single_step array_update
count-before-the-descriptor|directory.rs|(    attachment\.directory\.write\(count as usize.*?\n)(.*?)(    attachment\.live\.store\(live::COUNT.*?\n)|$3$1$2|single_step of_define
ends-stored-after-the-count|directory.rs|(    space::store_ends\(.*?\n)(.*?)(    attachment\.live\.store\(live::COUNT.*?\n)|$2$3$1|single_step of_define
first-content-after-the-count|directory.rs|(    write_initial\(.*?\n)(.*?)(    attachment\.live\.store\(live::COUNT.*?\n)|$2$3$1|single_step of_define
the-copy-in-use-is-overwritten|unit.rs|let mut choice = unit\.choice\.other\(\);|let mut choice = match unit.choice { Choice::Absent => Choice::A, c => c };|single_step of_sync
mark-before-the-record|commit.rs|planted!\(MarkEarly\)|true|single_step of_sync
identity-before-the-restore|recovery.rs|planted!\(IdentityFirst\)|true|single_step of_restoring
acked-before-the-record|commit.rs|(        disk\.write\(at, &bytes\))|store_acked(attachment, record.epoch);$1|single_step of_sync
idle-before-settling|protocol/transaction.rs|planted!\(IdleBeforeSettling\)|true|single_step transaction
committed-before-T-is-set|protocol/transaction.rs|(    if !changes\.iter\(\)\.all.*?\n    \}\n)(.*?)(    peers\.set_word\(me, Word::Committed, Release\);\n)|$2$3$1|single_step transaction
areas-filled-after-the-commit-point|protocol/transaction.rs|(    for \(held, change\) in &changes \{\n        match change \{\n            Change::Area.*?\n    \}\n)(.*?)(    peers\.set_word\(me, Word::Committed, Release\);\n)|$2$3$1|single_step transaction
leaving-does-not-sync|session.rs|syncer\.sync\(attachment, &mut patience, Turn::Wait\)|Ok::<Synced, Error>(Synced::Done)|single_step of_detach
a-commit-does-not-wake|protocol/queue.rs|planted!\(ClearWithoutWake\)|true|waiting a_change_wakes_who_sleeps
who-sleeps-has-not-set-W|protocol/wait.rs|planted!\(SleepWithoutW\)|true|waiting a_change_wakes_who_sleeps
the-bell-is-not-rung|protocol/queue.rs|!planted!\(RingEarly\)|false|waiting a_change_wakes_who_sleeps
the-futex-is-private|futex.rs|libc::FUTEX_WAIT_BITSET,|libc::FUTEX_WAIT_BITSET + libc::FUTEX_PRIVATE_FLAG,|waiting a_change_wakes_who_sleeps
a-sleep-is-long|wait.rs|(least: Duration::from_millis)\(20\)|$1(900)|killed_wakers row_06
definitions-are-never-kept-out|cut.rs|attempts >= OPEN_TO_DEFINITIONS|false|syncing whatever_is_defined
new-slots-are-not-counted|cut.rs|directory::count\(attachment\)\? != lines|false|syncing row_19
an-idle-sync-writes|sync.rs|known\.is_some_and\(is_idle\)|false|syncing idle_store
others-are-given-a-store-that-is-being-replaced|registry.rs|known\.retain\(.*?\);||which_file who_opens_the_store_during_a_compaction
the-file-at-the-path-is-not-compared-again|folder.rs|match is_it\(new\)|match Ok::<bool, io::Error>(true)|which_file replaces_its_own_file
the-old-file-is-not-marked|maintain.rs|attachment\.set_superseded\(true\)|()|which_file old_file_of_a_compacted
failures-in-the-background-are-not-told|session.rs|attachment\.tell_of_failed_sync\(error\)|drop(error)|failed_syncs heard_once
nothing-is-left-at-exit|registry.rs|drop\(sys::at_exit\(leave_all\)\)|drop(leave_all)|failed_syncs wherever_it_is
a-thread-that-ends-syncs-by-itself|session.rs|if thread_is_ending\(\)|if false \&\& thread_is_ending()|failed_syncs wherever_it_is
the-lock-of-a-dead-syncer-is-left|sync.rs|let recovered = owner != FREE|let recovered = owner != FREE \&\& owner == FREE|failed_syncs stopped_inside_a_sync
definitions-looked-at-before-W-is-set|watch.rs|announced\.filter\(.*?== u64::from\(self\.seen\)\)|announced|lib watch::
locks-end-with-the-descriptor|fork.rs|descriptor::anchor\(fd\)\?|0|closed_descriptors row_51_a_lock
children-keep-the-anchor|descriptor.rs|libc::MADV_DONTFORK|libc::MADV_DOFORK|closed_descriptors row_51_a_lock
the-number-is-not-looked-at|fork.rs|let ours = descriptor::is_ours\(.*?\);|let ours = true;|closed_descriptors row_51_a_sync
the-description-is-not-looked-at|descriptor.rs|is_ok_and\(.by_another. !by_another\)|is_ok()|closed_descriptors another_description
no-entry-is-lent|attach/lease.rs|let lent = owner > FIRST_LENT|let lent = false|crowded_table row_52
loans-do-not-end|attach/lease.rs|if held == 0|if held == usize::MAX|crowded_table row_52
a-lock-that-was-handed-on-is-buried|attach/signature.rs| && !self\.is_handed_on\(entry\)||killed_processes handed_on
the-reactor-is-not-woken|reactor.rs|futex::wake\(&raw const reactor\.news, Sleepers::CHANGE, 1\);||asynchronous many_tasks
END
}

# Builds, or runs, some tests of the copy. Without the command line, which none of them needs. Finer
# steps than in the normal run: some bugs last for a few instructions only.
cargo_test() {
    (cd "$copy" && CARGO_TARGET_DIR="$target" SLOTFILE_STRIDE=7 timeout 600 \
        cargo test -q --no-default-features --features tokio "$@" 2>&1)
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
    if is_chosen "$name"; then echo "$name|$rest"; fi
done >"$copy/rows"
count=$(wc -l <"$copy/rows")
[ "$count" -gt 0 ] || { echo "there is none of that name" >&2; exit 1; }

sed 's/.*|//' "$copy/rows" | sort -u >"$copy/tests-named"
echo "without a bug:"
while read -r binary tests; do
    if ! result=$(cargo_test "$(option "$binary")" "$tests" </dev/null); then
        echo "$result" >"$log/sound $binary $tests"
        failed "$binary $tests: RED without a bug"
    elif ! echo "$result" | grep -q '^test result: ok. [1-9]'; then
        failed "$binary $tests: THERE IS NO SUCH TEST"
    fi
done <"$copy/tests-named"

number=0
while IFS='|' read -r name file from to binary_and_tests; do
    number=$((number + 1))
    sound=$copy/sound/$file planted=$copy/src/$file
    perl -0777 -pi -e "s{$from}{$to}gs" "$planted"
    if diff "$sound" "$planted" >"$log/$name"; then
        failed "[$number/$count] $name: CANNOT BE PLANTED any more: the source has changed"
        continue
    fi
    binary=$(option "${binary_and_tests%% *}") tests=${binary_and_tests#* }
    if ! cargo_test "$binary" --no-run </dev/null >"$log/build"; then
        failed "[$number/$count] $name: DOES NOT COMPILE"
        grep -m 3 '^error' "$log/build" || true
    elif result=$(cargo_test "$binary" "$tests" </dev/null); then
        failed "[$number/$count] $name: UNNOTICED by $binary_and_tests"
    else
        echo "$result" >>"$log/$name"
        test=$(echo "$result" | sed -n 's/^---- \(.*\) stdout ----$/\1/p' | head -1)
        echo "[$number/$count] $name: caught by ${test:-$binary_and_tests, which did not end well}"
        echo "$result" | grep -m 1 -A 1 'panicked at' | tail -1 | cut -c1-160 | sed 's/^/    /'
    fi
    cp "$sound" "$planted"
done <"$copy/rows"
test ! -e "$copy/failed"
