//! PostgreSQL, over a unix socket, only for durable commits: a transaction for each. The process
//! that makes the store starts a server of its own, and ends it.

use std::any::Any;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::{Client, Config, NoTls, Statement};

use crate::contestant::{Contestant, Durable, Keep, Name, Number, not_offered};

pub struct Postgres;

impl Contestant for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn number(&self, _path: &Path, _keep: Keep) -> Result<Box<dyn Number>> {
        Err(not_offered("measured only with commits"))
    }

    fn durable(&self) -> Result<&dyn Durable> {
        Ok(self)
    }
}

/// Finds a program of PostgreSQL. Debian has them in a folder for each version, outside `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut of_debian: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    of_debian.sort();
    let folders = std::env::split_paths(&path).chain(of_debian.into_iter().rev());
    folders.map(|folder| folder.join(name)).find(|program| program.exists())
}

/// Beyond the defaults, which are `fsync = on`, `synchronous_commit = on` and no `commit_delay`.
const SETTINGS: [&str; 3] = ["listen_addresses=", "max_connections=40", "synchronous_commit=on"];

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: the call touches no memory; our child is there until we have waited for it.
        // This signal ends a server at once, with all of its processes.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGQUIT) };
        let _ = self.0.wait();
    }
}

/// The user to run the server as: it refuses to be run by root.
fn user() -> Result<Option<(u32, u32)>> {
    // SAFETY: the call touches no memory.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let found = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let found = found.and_then(|line| {
        let mut numbers = line.split(':').skip(1).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    match found {
        Some(user) => Ok(Some(user)),
        None => Err(not_offered("it does not run as root, and there is no user postgres")),
    }
}

fn command(name: &str, user: Option<(u32, u32)>, path: &Path) -> Result<Command> {
    let Some(program) = program(name) else {
        return Err(not_offered("postgres is not installed"));
    };
    let mut command = Command::new(program);
    command.current_dir(path).stdout(Stdio::null());
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    Ok(command)
}

fn start(path: &Path) -> Result<Server> {
    let user = user()?;
    std::fs::DirBuilder::new().mode(0o700).create(path)?;
    if let Some((user, group)) = user {
        chown(path, Some(user), Some(group))?;
        let_pass(path)?;
    }
    let data = path.join("data");
    let mut make = command("initdb", user, path)?;
    make.args(["--username=peers", "--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8"]);
    let made = make.arg("--pgdata").arg(&data).status();
    match made {
        // The folder that it is to begin in.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            return Err(not_offered("the user postgres cannot enter the folder of the stores"));
        }
        made => ensure!(made.context("initdb")?.success(), "initdb failed"),
    }
    let mut run = command("postgres", user, path)?;
    run.arg("-D").arg(&data).arg("-k").arg(path);
    for setting in SETTINGS {
        run.args(["-c", setting]);
    }
    let log = std::fs::File::create(path.join("log"))?;
    let server = Server(run.stderr(log).spawn().context("postgres")?);
    let start = Instant::now();
    while let Err(e) = connect(path) {
        ensure!(start.elapsed() < Duration::from_secs(10), "postgres: {e:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(server)
}

/// Lets other users pass through the temporary folders above `path`, which are this program's.
fn let_pass(path: &Path) -> Result<()> {
    for folder in path.ancestors().skip(1).take(2) {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o711))?;
    }
    Ok(())
}

fn connect(path: &Path) -> Result<Client> {
    Ok(Config::new().host_path(path).user("peers").dbname("postgres").connect(NoTls)?)
}

/// Each thread has a connection of its own.
impl Durable for Postgres {
    fn make(&self, path: &Path, names: &[Name]) -> Result<Box<dyn Any>> {
        let server = start(path)?;
        let mut client = connect(path)?;
        // With room on each page for the next version of a row.
        client.batch_execute(
            "create table slots (name text primary key, value bigint) with (fillfactor = 90)",
        )?;
        let mut copy = client.copy_in("copy slots from stdin")?;
        for name in names {
            writeln!(copy, "{}\t{}", name.name, name.value)?;
        }
        copy.finish()?;
        client.batch_execute("vacuum analyze slots")?;
        client.batch_execute("checkpoint")?;
        Ok(Box::new(server))
    }

    fn open(&self, path: &Path, names: &[&str]) -> Result<Vec<Box<dyn Number + Send>>> {
        let own = |name: &&str| {
            let mut client = connect(path)?;
            let add = client.prepare("update slots set value = value + 1 where name = $1")?;
            Ok(Box::new(Row { client, add, name: name.to_string() }) as Box<dyn Number + Send>)
        };
        names.iter().map(own).collect()
    }
}

struct Row {
    client: Client,
    add: Statement,
    name: String,
}

impl Number for Row {
    fn read(&mut self) -> u64 {
        let row = self.client.query_one("select value from slots where name = $1", &[&self.name]);
        row.expect("read").get::<_, i64>(0) as u64
    }
    fn add(&mut self) {
        assert_eq!(self.client.execute(&self.add, &[&self.name]).expect("added"), 1);
    }
}
