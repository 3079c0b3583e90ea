//! However many processes add to one value, or to one array, nothing is lost.

use crate::common::{Child, folder, long, number, path, role, store_in};
use slotfile::Store;

/// As a Python programmer would first write it: ten processes each add 1 a hundred times under
/// the value's lock, reading and writing in two steps.
#[test]
fn ten_processes_of_100_locked_increments_make_1000() {
    const NAME: &str = "ten_processes_of_100_locked_increments_make_1000";
    if role().is_some() {
        let value = Store::open(path()).unwrap().value::<i32>("value").unwrap();
        for _ in 0..100 {
            let guard = value.lock().unwrap();
            value.store(value.load() + 1).unwrap();
            drop(guard);
            std::thread::yield_now();
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let value = Store::create(&path).unwrap().value::<i32>("value").unwrap();
    let children: Vec<_> = (0..10).map(|_| Child::spawn(NAME, "adder", &path)).collect();
    children.into_iter().for_each(Child::join);
    assert_eq!(value.load(), 1000);
}

/// The same for each of ten elements of an array.
#[test]
fn ten_processes_of_100_locked_increments_of_ten_elements_make_1000_each() {
    const NAME: &str = "ten_processes_of_100_locked_increments_of_ten_elements_make_1000_each";
    if role().is_some() {
        let array = Store::open(path()).unwrap().array::<i32>("array", 10).unwrap();
        for _ in 0..100 {
            let _guard = array.lock().unwrap();
            for i in 0..array.len() {
                array.set(i, array.get(i).unwrap() + 1).unwrap();
            }
        }
        return;
    }
    let folder = folder();
    let path = store_in(&folder);
    let array = Store::create(&path).unwrap().array::<i32>("array", 10).unwrap();
    let children: Vec<_> = (0..10).map(|_| Child::spawn(NAME, "adder", &path)).collect();
    children.into_iter().for_each(Child::join);
    assert_eq!(array.load(), [1000; 10]);
}

/// Without a lock of the caller: each way to add, by two to eight processes at once.
#[test]
fn two_to_eight_processes_add_without_loss() {
    const NAME: &str = "two_to_eight_processes_add_without_loss";
    if role().is_some() {
        let store = Store::open(path()).unwrap();
        let value = store.value::<u64>("value").unwrap();
        let float = store.value::<f64>("float").unwrap();
        let compared = store.value::<u32>("compared").unwrap();
        let array = store.array::<u64>("array", 33).unwrap();
        // Neighbours in one word: an update of one must not undo the others'.
        let bytes = store.array::<u8>("bytes", 5).unwrap();
        for i in 0..number() {
            value.fetch_add(1).unwrap();
            float.update(|x| x + 0.5).unwrap();
            let mut seen = compared.load();
            while let Err(now) = compared.compare_exchange(seen, seen + 1).unwrap() {
                seen = now;
            }
            match i % 3 {
                0 => array.update(|a| a.iter_mut().for_each(|x| *x += 1)).unwrap(),
                1 => (0..33).for_each(|k| _ = array.fetch_add(k, 1).unwrap()),
                _ => {
                    array.update_range(..20, |a| a.iter_mut().for_each(|x| *x += 1)).unwrap();
                    array.update_range(20.., |a| a.iter_mut().for_each(|x| *x += 1)).unwrap();
                }
            }
            (0..5).for_each(|k| _ = bytes.fetch_add(k, 1).unwrap());
        }
        return;
    }
    let adds: u64 = if long() { 20_000 } else { 1_500 };
    for processes in [2, 3, 5, 8] {
        let folder = folder();
        let path = store_in(&folder);
        let store = Store::create(&path).unwrap();
        let value = store.value::<u64>("value").unwrap();
        let float = store.value::<f64>("float").unwrap();
        let compared = store.value::<u32>("compared").unwrap();
        let array = store.array::<u64>("array", 33).unwrap();
        let bytes = store.array::<u8>("bytes", 5).unwrap();
        let children: Vec<_> =
            (0..processes).map(|_| Child::spawn_with(NAME, "adder", &path, adds)).collect();
        children.into_iter().for_each(Child::join);
        let total = processes * adds;
        assert_eq!(value.load(), total);
        // Each update has incremented the version by one, and none was lost.
        assert_eq!(value.version(), total);
        assert_eq!(float.load(), 0.5 * total as f64);
        assert_eq!(u64::from(compared.load()), total);
        assert_eq!(array.load(), [total; 33]);
        assert_eq!(bytes.load(), [total as u8; 5]);
    }
}

/// The same for threads of one process, whether or not they share a handle.
#[test]
fn threads_add_without_loss() {
    let store = Store::temporary().unwrap();
    let array = store.array::<u32>("array", 3).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let own = store.array::<u32>("array", 3).unwrap();
                for _ in 0..500 {
                    array.fetch_add(0, 1).unwrap();
                    own.fetch_add(1, 1).unwrap();
                    let _guard = own.lock().unwrap();
                    array.set(2, own.get(2).unwrap() + 1).unwrap();
                }
            });
        }
    });
    assert_eq!(array.load(), [4000; 3]);
}
