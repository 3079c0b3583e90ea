//! A bank under kills: eight tellers move amounts between 64 accounts, half of them values and
//! half elements of an array, and are killed at any moment. No coin is lost or made, in any
//! snapshot, after the kills, or after a restart of the machine.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common;
use crate::common::state::restart;
use crate::common::{Child, folder, long, role, store_in, until, within};
use slotfile::{Array, Data, Error, Recovery, Scalar, Slot, Snapshot, Store, Transaction, Value};

const VALUES: usize = 32;
const ELEMENTS: usize = 32;
const EACH: i64 = 100;
const ALL: i64 = EACH * (VALUES + ELEMENTS) as i64;
const TELLERS: u64 = 8;

struct Bank {
    store: Store,
    values: Vec<Value<i64>>,
    array: Array<i64>,
    /// Transfers made.
    done: Value<u64>,
}

impl Bank {
    fn of(store: Store) -> Bank {
        let name = |n| format!("account/{n}");
        Bank {
            values: (0..VALUES).map(|n| store.value(&name(n)).unwrap()).collect(),
            array: store.array("accounts", ELEMENTS).unwrap(),
            done: store.value("done").unwrap(),
            store,
        }
    }

    fn create(path: &Path) -> Bank {
        let bank = Bank::of(Store::create(path).unwrap());
        bank.values.iter().for_each(|v| v.store(EACH).unwrap());
        bank.array.store(&[EACH; ELEMENTS]).unwrap();
        bank
    }

    fn change(&self, tx: &mut Transaction, account: usize, by: i64) -> Result<i64, Error> {
        match account.checked_sub(VALUES) {
            None => tx.fetch_add(&self.values[account], by),
            Some(element) => tx.update_element(&self.array, element, |x| x + by),
        }
    }

    /// Moves money from one account to another one, if there is enough.
    fn transfer(&self) -> Result<(), Refused> {
        let account = || fastrand::usize(..VALUES + ELEMENTS);
        let (from, to, amount) = (account(), account(), fastrand::i64(1..50));
        self.store.transaction(|tx| {
            self.change(tx, to, amount)?;
            if self.change(tx, from, -amount)? < amount {
                return Err(Refused::TooPoor);
            }
            tx.fetch_add(&self.done, 1)?;
            Ok(())
        })
    }

    fn sum(&self, s: &mut Snapshot<'_>) -> Result<i64, Error> {
        let mut sum: i64 = s.load(&self.array)?.iter().sum();
        for value in &self.values {
            sum += s.load(value)?;
        }
        Ok(sum)
    }

    /// Counts the money, in both ways of reading.
    fn check(&self, slots: &[Slot]) {
        assert_eq!(self.store.snapshot(|s| self.sum(s)).unwrap(), ALL, "one after the other");
        let of = |content: &Data| match content {
            Data::Scalar(Scalar::I64(x)) => *x,
            Data::Array(elements) => elements.to_vec::<i64>().unwrap().iter().sum(),
            other => panic!("{other:?}"),
        };
        let contents = self.store.snapshot_of(slots).unwrap();
        assert_eq!(contents.iter().map(|(data, _)| of(data)).sum::<i64>(), ALL, "all at once");
    }

    fn accounts(&self) -> Vec<Slot> {
        let is_account = |slot: &Slot| slot.name().starts_with("account");
        self.store.slots().unwrap().into_iter().filter(is_account).collect()
    }
}

#[derive(Debug)]
enum Refused {
    TooPoor,
    Store(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Store(error)
    }
}

#[test]
fn row_01_a_bank_keeps_every_coin_while_its_tellers_are_killed() {
    const NAME: &str = "row_01_a_bank_keeps_every_coin_while_its_tellers_are_killed";
    match role().as_deref() {
        Some("teller") => {
            let bank = Bank::of(Store::open(common::path()).unwrap());
            fastrand::seed(common::number());
            loop {
                match bank.transfer() {
                    Ok(()) | Err(Refused::TooPoor) => {}
                    Err(Refused::Store(error)) => panic!("{error}"),
                }
            }
        }
        Some(_) => {
            // Opened read-only: it cannot take locks.
            let bank = Bank::of(Store::open_read_only(common::path()).unwrap());
            let accounts = bank.accounts();
            let end = Instant::now() + Duration::from_millis(common::number());
            while Instant::now() < end {
                bank.check(&accounts);
            }
            return;
        }
        None => {}
    }
    let folder = folder();
    let path = store_in(&folder);
    let bank = Bank::create(&path);
    bank.store.sync().unwrap();
    let accounts = bank.accounts();
    let lasts = Duration::from_secs(if long() { 120 } else { 4 });
    let reader = Child::spawn_with(NAME, "reader", &path, lasts.as_millis() as u64);
    let teller = |n: u64| Child::spawn_with(NAME, "teller", &path, n);
    let mut tellers: Vec<Child> = (0..TELLERS).map(teller).collect();
    let end = Instant::now() + lasts;
    let (mut checks, mut kills, mut next_kill) = (0, 0, Instant::now());
    while Instant::now() < end {
        within(Duration::from_secs(20), "two snapshots", || bank.check(&accounts));
        checks += 1;
        if Instant::now() > next_kill {
            let victim = fastrand::usize(..tellers.len());
            tellers[victim] = teller(TELLERS + kills); // the one before is killed
            kills += 1;
            next_kill = Instant::now() + Duration::from_millis(fastrand::u64(1..100));
        }
    }
    reader.join();
    let before = bank.done.load();
    until("the others go on", || bank.done.load() > before);
    tellers.clear();
    bank.check(&accounts);
    println!("{} transfers, {checks} checks, {kills} kills", bank.done.load());
    assert!(bank.done.load() > 100 && checks > 10 && kills > 5, "too little has happened");

    // Everything is killed, and opened again.
    let mut last: Vec<Child> = (0..TELLERS).map(teller).collect();
    drop((bank, accounts));
    std::thread::sleep(Duration::from_millis(300));
    last.clear();
    let bank = Bank::of(Store::open(&path).unwrap());
    bank.check(&bank.accounts());
    drop(bank);

    // The machine restarts while tellers work: it returns to some sync, a whole one.
    last.extend((0..TELLERS).map(teller));
    std::thread::sleep(Duration::from_millis(if long() { 5_000 } else { 1_300 }));
    last.clear();
    restart(&path);
    let bank = Bank::of(Store::open(&path).unwrap());
    assert!(matches!(bank.store.recovery(), Recovery::Restored { .. }));
    bank.check(&bank.accounts());
}

/// Each needs the slots on both sides of it; no two lock in the same order.
#[test]
fn row_16_philosophers_dine_and_none_of_them_starves() {
    const NAME: &str = "row_16_philosophers_dine_and_none_of_them_starves";
    const SEATS: usize = 5;
    let dines = common::rounds(300, 20_000) as u64;
    let fork =
        |store: &Store, n: usize| store.value::<u64>(&format!("fork {}", n % SEATS)).unwrap();
    let meals = |store: &Store, n: usize| store.value::<u64>(&format!("meals {n}")).unwrap();
    if role().is_some() {
        let store = Store::open(common::path()).unwrap();
        let me = common::number() as usize;
        let (left, right, mine) = (fork(&store, me), fork(&store, me + 1), meals(&store, me));
        for _ in 0..dines {
            let dined = store.transaction(|tx| {
                tx.fetch_add(&left, 1)?;
                std::thread::yield_now(); // so that others hold theirs by now
                tx.fetch_add(&right, 1)?;
                tx.fetch_add(&mine, 1)
            });
            dined.unwrap();
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let store = Store::create(&path).unwrap();
    (0..SEATS).for_each(|n| drop((fork(&store, n), meals(&store, n))));
    let philosophers: Vec<Child> =
        (0..SEATS as u64).map(|n| Child::spawn_with(NAME, "philosopher", &path, n)).collect();
    philosophers.into_iter().for_each(Child::join);
    for n in 0..SEATS {
        assert_eq!((meals(&store, n).load(), fork(&store, n).load()), (dines, 2 * dines));
    }
}
