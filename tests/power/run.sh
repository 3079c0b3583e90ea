#!/usr/bin/env bash
# Power cuts on real file systems, replayed from a log of all writes to the disk.
#
#   bash tests/power/run.sh [IMAGES] [SECONDS] [FILE SYSTEM...]      (300 6 ext4 xfs btrfs overlay)
#
# `overlay` is overlayfs with its upper layer on ext4 on that disk, as in a container.
#
# The disk is a file that qemu-storage-daemon exports by FUSE, with a log of each write and flush
# (`blklogwrites`). A store is used on a file system on that disk. Then, for many points of the log,
# the disk is built as a power cut would have left it: all that was flushed, and a random part of
# what was not. Each such image is mounted and its store opened. The store must have returned to the
# last acknowledged sync or to one in flight, with all slots of the same sync.
#
# Each file system gets two runs: one process that sets all slots and syncs, and eight that commit at once
# (SLOTFILE_POWER_WORKLOAD=one or group: only that one). Of the eight, each acknowledged commit must be there.
#
# Needs root, loop devices, /dev/fuse, qemu-storage-daemon with FUSE exports (Debian:
# qemu-system-common or qemu-storage-daemon), mkfs.ext4, mkfs.xfs (xfsprogs), mkfs.btrfs
# (btrfs-progs). If one of these is missing, it says so and ends with exit code 77, as skipped tests do.
# SLOTFILE_POWER_SEED chooses other points. SLOTFILE_POWER_TEST names a test program that is used as
# it is, for instance one with a planted bug, built from a copy of the sources.
set -euo pipefail
cd "$(dirname "$0")/../.."

images=${1:-300} seconds=${2:-6}
shift $(($# < 2 ? $# : 2))
kinds=("${@:-ext4}")
[ $# -gt 0 ] || kinds=(ext4 xfs btrfs overlay)

skip() {
    echo "skipped: $1"
    exit 77
}
[ "$(id -u)" = 0 ] || skip "mounting needs root"
[ -c /dev/fuse ] || skip "there is no /dev/fuse"
[ -e /dev/loop-control ] || skip "there are no loop devices"
for program in qemu-storage-daemon losetup mount; do
    command -v "$program" >/dev/null || skip "$program is not installed"
done
[[ $(qemu-storage-daemon --help) == *"type=]fuse"* ]] ||
    skip "this qemu-storage-daemon has no FUSE exports"

test=${SLOTFILE_POWER_TEST:-}
if [ -z "$test" ]; then
    test=$(cargo test --quiet --test power --no-run --message-format=json |
        sed -n 's/.*"executable":"\([^"]*power-[^"]*\)".*/\1/p' | tail -1)
fi
[ -x "$test" ] || { echo "the test program was not built" >&2; exit 1; }

size=$((512 << 20))
workloads=${SLOTFILE_POWER_WORKLOAD:-one group}
folder= loop= daemon=
clean_up() {
    # In reverse order; after a failure half-way, whatever is there.
    for mount in "$folder/mount" "$folder/live" "$folder/layers"; do
        mountpoint -q "$mount" && umount "$mount"
    done
    [ -z "$loop" ] || losetup -d "$loop"
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon" || true; }
    mountpoint -q "$folder/disk" && umount "$folder/disk"
    rm -rf "$folder"
    folder= loop= daemon=
} 2>/dev/null
trap 'set +e; clean_up' EXIT

part() {
    SLOTFILE_POWER=$1 "$test" --exact part_of_a_power_cut_run --nocapture | grep -v '^\(running\|test \|$\)'
}

power_cuts() {
    local kind=$1 disk=$1
    [ "$kind" != overlay ] || disk=ext4
    command -v "mkfs.$disk" >/dev/null || { echo "skipped: $kind, mkfs.$disk is not installed"; return; }
    folder=$(mktemp -d "${TMPDIR:-/dev/shm}/slotfile-power-XXXXXX")
    mkdir "$folder/live" "$folder/mount" "$folder/layers" "$folder/lower"
    truncate -s "$size" "$folder/raw"
    truncate -s 0 "$folder/log"
    touch "$folder/disk"
    qemu-storage-daemon \
        --blockdev "driver=file,filename=$folder/raw,node-name=raw" \
        --blockdev "driver=file,filename=$folder/log,node-name=log" \
        --blockdev "driver=blklogwrites,file=raw,log=log,log-super-update-interval=1,node-name=disk" \
        --export "type=fuse,id=disk,node-name=disk,mountpoint=$folder/disk,writable=on" &
    daemon=$!
    for _ in $(seq 100); do
        mountpoint -q "$folder/disk" && break
        kill -0 "$daemon" 2>/dev/null || skip "qemu-storage-daemon has ended"
        sleep 0.05
    done
    loop=$(losetup --find --show "$folder/disk") || skip "no loop device is free"
    case $disk in
    ext4) mkfs.ext4 -q -E nodiscard,lazy_itable_init=0 -J size=8 "$loop" ;;
    xfs) mkfs.xfs -q -K "$loop" ;;
    *) "mkfs.$disk" -q "$loop" ;;
    esac

    export SLOTFILE_POWER_STORE=$folder/live/state.slots SLOTFILE_POWER_LOG=$folder/log
    export SLOTFILE_POWER_EVENTS=$folder/events SLOTFILE_POWER_SECONDS=$seconds
    export SLOTFILE_POWER_IMAGES=$images SLOTFILE_POWER_SIZE=$size SLOTFILE_POWER_KIND=$kind
    export SLOTFILE_POWER_FOLDER=$folder SLOTFILE_POWER_SEED=${SLOTFILE_POWER_SEED:-1}
    export SLOTFILE_POWER_LAYERS=lowerdir=$folder/lower,upperdir=$folder/layers/upper,workdir=$folder/layers/work
    echo "$kind, $SLOTFILE_POWER_WORKLOAD:"
    # Three times: after each mount the store is restored, and cuts during that are among the points.
    for _ in 1 2 3; do
        if [ "$kind" = overlay ]; then
            mount -t ext4 "$loop" "$folder/layers"
            mkdir -p "$folder/layers/upper" "$folder/layers/work"
            sync -f "$folder/layers"
            mount -t overlay -o "$SLOTFILE_POWER_LAYERS" overlay "$folder/live"
        else
            mount -t "$kind" "$loop" "$folder/live"
        fi
        part run
        umount "$folder/live"
        [ "$kind" != overlay ] || umount "$folder/layers"
    done
    losetup -d "$loop"
    loop=
    kill "$daemon"
    wait "$daemon" || true
    daemon=
    part replay
    clean_up
}

for kind in "${kinds[@]}"; do
    for workload in $workloads; do
        SLOTFILE_POWER_WORKLOAD=$workload power_cuts "$kind"
    done
done
