#!/bin/sh
# Plants bugs in a copy of the library, one at a time, and runs the tests that kill
# processes at any instruction: each bug must turn a test red, or the tests show nothing.
#
#     tests/mutants.sh            all of them: a rebuild and up to a minute each
#     tests/mutants.sh NAME...    these
#
# Not part of the normal run. Prints a line for each, and fails if one went unnoticed.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
# A place of its own, always the same: cargo takes a package of the same name in its
# workspace for the same one, and would mix what is built of two of them.
target=${CARGO_TARGET_DIR:-$root/target}/mutants
copy=$target/source
rm -rf "$copy"
mkdir -p "$copy"
cp -R "$root/Cargo.toml" "$root/Cargo.lock" "$root/README.md" "$root/src" "$root/tests" \
    "$root/bin" "$root/benches" "$copy"
cp -R "$copy/src" "$copy/sound"

# NAME | file | what is there (perl) | what is put there | tests that should notice
mutants() {
    cat <<'END'
commit-before-fill|protocol/lock.rs|planted!\(CommitEarly\)|true|array_update
burial-keeps-the-version|protocol/mod.rs|planted!\(BurialKeepsVersion\)|true|half_written
stale-noted-late|protocol/lock.rs|planted!\(NoteStaleLate\)|true|array_update
the-current-area-not-noted-as-stale|protocol/lock.rs|planted!\(CurrentNotStale\)|true|array_update
count-before-the-descriptor|directory.rs|(    attachment\.directory\.write\(count as usize.*?\n)(.*?)(    attachment\.live\.store\(live::COUNT.*?\n)|$3$1$2|of_define
ends-stored-after-the-count|directory.rs|(    space::store_ends\(.*?\n)(.*?)(    attachment\.live\.store\(live::COUNT.*?\n)|$2$3$1|of_define
first-content-after-the-count|directory.rs|(    write_initial\(.*?\n)(.*?)(    attachment\.live\.store\(live::COUNT.*?\n)|$2$3$1|of_define
the-copy-in-use-is-overwritten|unit.rs|let choice = self\.choice\.other\(\);|let choice = match self.choice { Choice::Absent => Choice::A, c => c };|of_sync
mark-before-the-record|commit.rs|(        sys::write_at\(file, &bytes, at\))|checkpoint::write_mark(file, regions, record.epoch).map_err(cannot)?;$1|of_sync
identity-before-the-restore|recovery.rs|store_identity\(attachment, &RESTORING\);|store_identity(attachment, &identity(file).map_err(fail)?);|of_restoring
acked-before-the-record|commit.rs|(        sys::write_at\(file, &bytes, at\))|store_acked(attachment, record.epoch);$1|of_sync
idle-before-settling|protocol/transaction.rs|planted!\(IdleBeforeSettling\)|true|transaction
committed-before-T-is-set|protocol/transaction.rs|(    if !changes\.iter\(\)\.all.*?\n    \}\n)(.*?)(    peers\.set_word\(me, Word::Committed, Release\);\n)|$2$3$1|transaction
areas-filled-after-the-commit-point|protocol/transaction.rs|(    for \(held, change\) in &changes \{\n        match change \{\n            Change::Area.*?\n    \}\n)(.*?)(    peers\.set_word\(me, Word::Committed, Release\);\n)|$2$3$1|transaction
leaving-does-not-sync|session.rs|self\.syncer\.sync\(&self\.attachment, &mut patience, Turn::Wait\)|Ok::<(), crate::error::Error>(())|of_detach
END
}

mutants | while IFS='|' read -r name file from to tests; do
    if [ $# -gt 0 ]; then
        case " $* " in *" $name "*) ;; *) continue ;; esac
    fi
    rm -rf "$copy/src"
    cp -R "$copy/sound" "$copy/src"
    perl -0777 -pi -e "s{$from}{$to}gs" "$copy/src/$file"
    if cmp -s "$copy/src/$file" "$copy/sound/$file"; then
        echo "$name: CANNOT BE PLANTED any more: the source has changed"
        exit 1
    fi
    run() {
        # Finer than in the normal run: some of them last for a few instructions only.
        (cd "$copy" && CARGO_TARGET_DIR="$target" SLOTFILE_STRIDE=7 cargo test -q --test single_step "$@" 2>&1)
    }
    if ! build=$(run --no-run); then
        echo "$name: DOES NOT COMPILE"
        echo "$build" | grep -m 3 '^error'
        exit 1
    fi
    if result=$(run "$tests"); then
        echo "$name: UNNOTICED by $tests"
        touch "$copy/unnoticed"
    else
        echo "$name: caught by $(echo "$result" | grep -om 1 'row_[a-z0-9_]*')"
        echo "$result" | grep -m 1 -A 1 'panicked at' | tail -1 | cut -c1-160 | sed 's/^/    /'
    fi
done
test ! -e "$copy/unnoticed"
