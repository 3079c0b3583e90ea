//! `lock`: which process holds it, for how long, and the exit codes.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Folder;

#[track_caller]
fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{path:?} does not come");
        sleep(Duration::from_millis(5));
    }
}

/// A locker whose command reports that it runs, and ends once the file `end` exists.
fn holder(f: &Folder) -> Child {
    let script = "touch runs; while [ ! -e end ]; do sleep 0.02; done";
    let child = f
        .command(&["lock", "F", "job", "--", "sh", "-c", script])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&f.path("runs"));
    child
}

#[test]
fn two_lockers_exclude_each_other() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64"]);
    // Read, wait, write: without the lock, additions are lost.
    let script = format!(
        "for i in 1 2 3 4 5; do {0} lock --timeout 60 F job -- sh -c 'n=$({0} get F n); sleep 0.02; {0} set F n $((n + 1))' || exit; done",
        super::SLOTFILE
    );
    let start = || {
        std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(f.path(""))
            .spawn()
            .unwrap()
    };
    let shells: Vec<Child> = (0..3).map(|_| start()).collect();
    for mut shell in shells {
        assert!(shell.wait().unwrap().success());
    }
    assert_eq!(f.ok(&["get", "F", "n"]), "15\n");
}

#[test]
fn a_lock_not_had_in_time_is_124() {
    let f = Folder::with_store();
    let mut holder = holder(&f);
    f.fails(
        124,
        &["lock", "--timeout", "0.1", "F", "job", "--", "touch", "never"],
        &["F", "\"job\""],
    );
    f.fails(
        124,
        &["lock", "--lock-timeout", "0.1", "F", "job", "touch", "never"],
        &["F", "\"job\""],
    );
    // Other verbs exit with 4; reading never waits.
    f.fails(4, &["set", "--lock-timeout", "0.1", "F", "job", "true"], &["F", "\"job\""]);
    assert_eq!(f.ok(&["get", "F", "job"]), "false\n");
    assert!(!f.path("never").exists());
    fs::write(f.path("end"), "").unwrap();
    assert!(holder.wait().unwrap().success());
    f.ok(&["lock", "--timeout", "5", "F", "job", "--", "true"]);
}

#[test]
fn the_lock_lasts_as_long_as_the_command() {
    let f = Folder::with_store();
    let mut holder = holder(&f);
    let pid = holder.id();
    let attempt = ["lock", "--timeout", "0.3", "F", "job", "--", "true"];
    let alive = f.run(&attempt);
    assert!(alive.err.contains(&format!("pid {pid} (\"slotfile\"): ")), "{alive:?}");
    assert!(alive.err.contains("end it"), "{alive:?}");
    let state = || f.json(&["info", "--json", "F"])["open_by"][0]["state"].clone();
    assert_eq!(state(), "running");
    holder.kill().unwrap();
    holder.wait().unwrap();
    // slotfile is dead; its command runs on and holds the lock. The pid may soon be reused.
    let dead = f.run(&attempt);
    assert_eq!(dead.code, 124, "{dead:?}");
    assert!(dead.err.contains(&format!("pid {pid} (\"slotfile\"), which has ended")), "{dead:?}");
    assert!(!dead.err.contains("end it"), "{dead:?}");
    assert_eq!(state(), "ended");
    assert!(f.ok(&["info", "F"]).contains("which has ended"));
    fs::write(f.path("end"), "").unwrap();
    f.ok(&["lock", "--timeout", "10", "F", "job", "--", "true"]);
}

#[test]
fn the_exit_code_is_the_commands() {
    let f = Folder::with_store();
    let sh = |script: &str| f.run(&["lock", "F", "job", "--", "sh", "-c", script]).code;
    assert_eq!(sh("exit 0"), 0);
    assert_eq!(sh("exit 42"), 42);
    assert_eq!(sh("kill -TERM $$"), 128 + 15);
    assert_eq!(sh("kill -KILL $$"), 128 + 9);
    f.fails(127, &["lock", "F", "job", "--", "no-such-command"], &["no-such-command"]);
    fs::write(f.path("plain"), "").unwrap();
    f.fails(126, &["lock", "F", "job", "--", "./plain"], &["./plain"]);
    f.fails(125, &["lock", "F", "job", "--"], &["COMMAND"]);
    f.fails(125, &["lock", "F", "job"], &["COMMAND"]);
    f.fails(125, &["lock", "G", "job", "--", "true"], &["G"]);
}

#[test]
fn one_double_dash_is_dropped() {
    let f = Folder::with_store();
    assert_eq!(f.ok(&["lock", "F", "job", "echo", "--", "a"]), "-- a\n");
    assert_eq!(f.ok(&["lock", "F", "job", "--", "echo", "--", "-a"]), "-- -a\n");
    f.fails(127, &["lock", "F", "job", "--", "--", "echo"], &["--"]);
}

#[test]
fn any_slot_can_be_locked() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "pose", "f64[6]"]);
    f.ok(&["lock", "F", "pose", "--", "true"]);
    assert_eq!(f.json(&["get", "--json", "F", "pose"])["type"], "f64[6]");
}

/// In a container its pid is 1, which outside is that of the system's first process.
#[test]
fn a_holder_in_another_pid_namespace_is_not_told_to_be_ended() {
    let f = Folder::with_store();
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    unshare.args([super::SLOTFILE, "lock", "F", "job", "--", "sh", "-c"]);
    unshare.arg("touch runs; while [ ! -e end ]; do sleep 0.02; done").stderr(Stdio::null());
    let mut holder = unshare.current_dir(f.path("")).spawn().unwrap();
    let begun = Instant::now();
    while !f.path("runs").exists() {
        if holder.try_wait().unwrap().is_some() {
            eprintln!("skipped: `unshare --pid` needs root");
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not run");
        sleep(Duration::from_millis(5));
    }
    let ended = f.run(&["lock", "--timeout", "0.2", "F", "job", "--", "true"]);
    assert_eq!(ended.code, 124, "{ended:?}");
    assert!(ended.err.contains("pid 1 (\"slotfile\") in another PID namespace"), "{ended:?}");
    assert!(!ended.err.contains("end it"), "{ended:?}");
    assert_eq!(f.json(&["info", "--json", "F"])["open_by"][0]["state"], "elsewhere");
    fs::write(f.path("end"), "").unwrap();
    holder.wait().unwrap();
}

#[test]
fn an_option_behind_the_name_is_not_a_command() {
    let f = Folder::with_store();
    let words = ["lock", "F", "job", "--timeout", "5", "--", "true"];
    f.fails(125, &words, &["\"--timeout\" is not a COMMAND", "options come before FILE"]);
    // After `--`, it is one.
    f.fails(127, &["lock", "F", "job", "--", "--timeout"], &["cannot run \"--timeout\""]);
}

/// Its own command would wait for it. The message says so, and an add to a counter needs no lock.
#[test]
fn what_the_command_may_change() {
    let f = Folder::with_store();
    f.ok(&["define", "F", "n", "u64"]);
    f.ok(&["define", "F", "c", "counter"]);
    let soon = ["--lock-timeout", "0.1"];
    let own = |verb: &str, slot: &str| {
        let within = [super::SLOTFILE, verb, soon[0], soon[1], "F", slot, "2"];
        f.run(&[&["lock", "F", slot, "--"][..], &within].concat())
    };
    for verb in ["add", "set"] {
        let refused = own(verb, "n");
        assert_eq!(refused.code, 4, "{}", refused.err);
        assert!(refused.err.contains("lock another slot"), "{}", refused.err);
    }
    let added = own("add", "c");
    assert_eq!((added.code, added.out.as_str()), (0, "2\n"), "{}", added.err);
    // Another slot's lock is not meant.
    let mut holder = holder(&f);
    let other = f.run(&[
        "lock",
        "F",
        "n",
        "--",
        super::SLOTFILE,
        "lock",
        soon[0],
        soon[1],
        "F",
        "job",
        "--",
        "true",
    ]);
    std::fs::write(f.path("end"), "").unwrap();
    holder.wait().unwrap();
    assert_eq!(other.code, 124, "{}", other.err);
    assert!(!other.err.contains("lock another slot"), "{}", other.err);
    let nested = f.run(&[
        "lock",
        "F",
        "n",
        "--",
        super::SLOTFILE,
        "lock",
        soon[0],
        soon[1],
        "F",
        "n",
        "--",
        "true",
    ]);
    assert_eq!(nested.code, 124, "{}", nested.err);
    assert!(nested.err.contains("lock another slot"), "{}", nested.err);
    assert!(f.ok(&["help", "lock"]).contains("another slot"));
}
