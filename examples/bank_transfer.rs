//! A bank transfer under kills.
//!
//! Four processes move money between ten accounts, each transfer a transaction of two slots;
//! every few milliseconds one of them is killed (SIGKILL), wherever it is, and another one
//! takes its place. Money is neither lost nor made: every snapshot, at any moment, adds up.
//!
//! Run it: `cargo run --example bank_transfer`
//! Its last line: `not a coin was lost, and none was made`

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use slotfile::{Array, Error, Store, Value};

const ACCOUNTS: usize = 10;
const TELLERS: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Started by itself, with the store's path: one of the tellers.
    if let Some(path) = std::env::args_os().nth(1) {
        return Ok(work(path.as_ref())?);
    }
    let path = std::env::temp_dir().join(format!("bank-{}.slots", std::process::id()));
    let store = Store::create(&path)?;
    let (accounts, transfers) = open(&store)?;
    accounts.store(&[1_000; ACCOUNTS])?;

    let teller = || Command::new(std::env::current_exe()?).arg(&path).spawn();
    let mut tellers: Vec<Child> = (0..TELLERS).map(|_| teller()).collect::<Result<_, _>>()?;
    let end = Instant::now() + Duration::from_secs(2);
    let mut kills = 0;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        let victim = &mut tellers[kills % TELLERS];
        victim.kill()?;
        victim.wait()?;
        *victim = teller()?;
        kills += 1;
        // Both at the same instant, while the others go on.
        let (sum, transfers) = store.snapshot(|s| {
            let sum: i64 = s.load(&accounts)?.iter().sum();
            Ok((sum, s.load(&transfers)?))
        })?;
        assert_eq!(sum, 1_000 * ACCOUNTS as i64, "after {transfers} transfers");
    }
    for teller in &mut tellers {
        teller.kill()?;
        teller.wait()?;
    }
    std::fs::remove_file(&path)?;
    println!("{} transfers, {kills} tellers killed", transfers.load());
    println!("not a coin was lost, and none was made");
    Ok(())
}

fn open(store: &Store) -> Result<(Array<i64>, Value<u64>), Error> {
    Ok((store.array("accounts", ACCOUNTS)?, store.value("transfers")?))
}

/// What a teller does until it is killed.
fn work(path: &Path) -> Result<(), Error> {
    let store = Store::open(path)?;
    let (accounts, transfers) = open(&store)?;
    for n in std::process::id() as usize.. {
        let (from, to, amount) = (n % ACCOUNTS, n * 7 % ACCOUNTS, n as i64 % 50);
        match transfer(&store, &accounts, &transfers, from, to, amount) {
            Ok(()) | Err(Refused::NotEnough) => {}
            Err(Refused::Store(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Why a transfer was not made. Whatever it is, nothing has changed.
enum Refused {
    NotEnough,
    Store(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Store(error)
    }
}

fn transfer(
    store: &Store,
    accounts: &Array<i64>,
    transfers: &Value<u64>,
    from: usize,
    to: usize,
    amount: i64,
) -> Result<(), Refused> {
    store.transaction(|tx| {
        // What is read here still holds when the transfer is made.
        if tx.get(accounts, from)? < amount {
            return Err(Refused::NotEnough);
        }
        tx.update_element(accounts, from, |x| x - amount)?;
        tx.update_element(accounts, to, |x| x + amount)?;
        tx.fetch_add(transfers, 1)?;
        Ok(())
    })
}
