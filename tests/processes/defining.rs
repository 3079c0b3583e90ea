//! Slots that another process defines.

use crate::common::{self, Child, folder_in_memory, number, path, role, store_in};
use slotfile::{Define, Error, OpenOptions, Store};

/// The number of lines at which the directory's fourth tier begins.
const LINES: u64 = 2_048;

/// Whoever sees that a slot exists sees where its tier of the directory is.
#[test]
fn names_in_further_tiers_are_found_at_once() {
    let name = |n: u64| format!("name {n}");
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let found = store.value::<u64>("found").unwrap();
        for n in 1..number() {
            common::until("the next one is there", || match store.slot(&name(n)) {
                Ok(_) => true,
                Err(Error::NotFound { .. }) => false,
                Err(error) => panic!("{n}: {error}"),
            });
            assert_eq!(store.value::<u64>(&name(n)).unwrap().load(), n);
            found.store(n).unwrap();
        }
        return;
    }
    let folder = folder_in_memory();
    let path = store_in(&folder);
    let store = OpenOptions::new().create(true).sync_every(None).open(&path).unwrap();
    let found = store.value::<u64>("found").unwrap();
    let test = "names_in_further_tiers_are_found_at_once";
    let child = Child::spawn_with(test, "find each name", &path, LINES + 10);
    for n in 1..LINES + 10 {
        if n.is_multiple_of(64) {
            // From here on it looks for this one.
            common::until("all others are found", || found.load() == n - 1);
        }
        store.value_with::<u64>(&name(n), Define::new().initial(n)).unwrap();
    }
    child.join();
    assert!(store.check().unwrap().is_ok());
}
