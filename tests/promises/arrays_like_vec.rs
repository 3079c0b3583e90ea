//! Arrays, texts and bytes against a plain `Vec`: every operation, every kind of element,
//! ranges at any offset, 2, 4 and 8 areas, with the store reopened in between.

use crate::common;
use proptest::prelude::*;
use slotfile::{Array, Bits, Data, Define, Element, Error, Number, OpenOptions, Store};

fn cases(few: u32) -> ProptestConfig {
    let cases = if common::long() { 60 * few } else { few };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Positions are fractions of the array's length, so that they fit any.
#[derive(Clone, Debug)]
enum Step {
    Store(u64),
    StoreRange(f64, f64, u64),
    Set(f64, u64),
    Add(f64, u64),
    Swap(f64, u64),
    CompareExchange(f64, bool, u64),
    Update(u64),
    UpdateRange(f64, f64, u64),
    UpdateUndone,
    ThroughSlot(f64, f64, u64),
    /// The lock taken and released without an update, which must not confuse versions and areas.
    Lock,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0.0..1.0f64;
    prop_oneof![
        2 => any::<u64>().prop_map(Step::Store),
        4 => (at(), at(), any::<u64>()).prop_map(|(a, b, s)| Step::StoreRange(a, b, s)),
        4 => (at(), any::<u64>()).prop_map(|(a, s)| Step::Set(a, s)),
        3 => (at(), any::<u64>()).prop_map(|(a, s)| Step::Add(a, s)),
        2 => (at(), any::<u64>()).prop_map(|(a, s)| Step::Swap(a, s)),
        2 => (at(), any::<bool>(), any::<u64>()).prop_map(|(a, b, s)| Step::CompareExchange(a, b, s)),
        2 => any::<u64>().prop_map(Step::Update),
        4 => (at(), at(), any::<u64>()).prop_map(|(a, b, s)| Step::UpdateRange(a, b, s)),
        1 => Just(Step::UpdateUndone),
        2 => (at(), at(), any::<u64>()).prop_map(|(a, b, s)| Step::ThroughSlot(a, b, s)),
        1 => Just(Step::Lock),
        1 => Just(Step::Reopen),
    ]
}

/// Elements made from a seed.
trait Seeded: Element {
    fn seeded(seed: u64) -> Self;
    fn plus(self, other: Self) -> Self;
    fn fetch_plus(array: &Array<Self>, at: usize, n: Self) -> Self;
}

macro_rules! seeded {
    ($plus:expr; $($t:ty),*) => {$(
        impl Seeded for $t {
            fn seeded(seed: u64) -> $t {
                // Small numbers, so that floats add exactly.
                (seed >> 40) as u8 as $t
            }
            fn plus(self, other: $t) -> $t {
                let plus: fn($t, $t) -> $t = $plus;
                plus(self, other)
            }
            fn fetch_plus(array: &Array<$t>, at: usize, n: $t) -> $t {
                array.fetch_add(at, n).unwrap()
            }
        }
    )*};
}
seeded!(|a, b| a.wrapping_add(b); i8, i16, i32, i64, u8, u16, u32, u64);
seeded!(|a, b| a + b; f32, f64);

impl Seeded for bool {
    fn seeded(seed: u64) -> bool {
        seed >> 40 & 1 == 1
    }
    fn plus(self, other: bool) -> bool {
        self ^ other
    }
    fn fetch_plus(array: &Array<bool>, at: usize, n: bool) -> bool {
        array.fetch_xor(at, n).unwrap()
    }
}

fn follow<T: Seeded>(len: usize, areas: usize, steps: &[Step])
where
    slotfile::Scalar: From<T>,
{
    let folder = common::folder();
    let path = common::store_in(&folder);
    let options = OpenOptions::new().max_slots(8).max_size(64 << 20).create(true).clone();
    let mut store = options.open(&path).unwrap();
    // Neighbours that must not change, right before and after it.
    let before = store.array::<u8>("before", 3).unwrap();
    let define = Define::new().areas(areas);
    let mut array = store.array_with::<T>("array", len, define).unwrap();
    let after = store.array::<u8>("after", 3).unwrap();
    before.store(&[1, 2, 3]).unwrap();
    after.store(&[4, 5, 6]).unwrap();
    let mut model = vec![T::default(); len];
    let at = |f: f64| (f * len as f64) as usize;
    let range = |a: f64, b: f64| at(a.min(b))..at(a.max(b)) + 1;
    let filled = |seed: u64, n: usize| -> Vec<T> {
        (0..n as u64).map(|i| T::seeded(seed.wrapping_mul(2 * i + 1))).collect()
    };
    let mut version = array.version();
    for step in steps {
        let mut changes = true;
        match *step {
            Step::Store(seed) => {
                model = filled(seed, len);
                array.store(&model).unwrap();
            }
            Step::StoreRange(a, b, seed) => {
                let new = filled(seed, range(a, b).len());
                model[range(a, b)].copy_from_slice(&new);
                array.store_range(range(a, b), &new).unwrap();
            }
            Step::Set(a, seed) => {
                model[at(a)] = T::seeded(seed);
                array.set(at(a), T::seeded(seed)).unwrap();
            }
            Step::Add(a, seed) => {
                let old = T::fetch_plus(&array, at(a), T::seeded(seed));
                assert_eq!(old, model[at(a)]);
                model[at(a)] = old.plus(T::seeded(seed));
            }
            Step::Swap(a, seed) => {
                let old = std::mem::replace(&mut model[at(a)], T::seeded(seed));
                assert_eq!(array.swap(at(a), T::seeded(seed)).unwrap(), old);
            }
            Step::CompareExchange(a, right, seed) => {
                let (current, new) = (model[at(a)], T::seeded(seed));
                let expected = if right { current } else { T::seeded(!seed) };
                let outcome = array.compare_exchange(at(a), expected, new).unwrap();
                changes = expected == current;
                assert_eq!(outcome, if changes { Ok(current) } else { Err(current) });
                if changes {
                    model[at(a)] = new;
                }
            }
            Step::Update(seed) => {
                array
                    .update(|elements| {
                        assert_eq!(elements, model);
                        elements.reverse();
                        elements[0] = T::seeded(seed);
                    })
                    .unwrap();
                model.reverse();
                model[0] = T::seeded(seed);
            }
            Step::UpdateRange(a, b, seed) => {
                let change = |elements: &mut [T]| {
                    elements.rotate_left(elements.len() / 2);
                    elements[elements.len() - 1] = T::seeded(seed);
                };
                array.update_range(range(a, b), change).unwrap();
                change(&mut model[range(a, b)]);
            }
            Step::UpdateUndone => {
                changes = false;
                let slot = store.slot("array").unwrap();
                let undone = slot.update(|content| {
                    *content = Data::Array(filled(9, len).as_slice().into());
                    Err::<(), _>(Error::ReadOnly { path: "x".into() })
                });
                assert!(matches!(undone, Err(Error::ReadOnly { .. })));
            }
            Step::ThroughSlot(a, b, seed) => {
                let slot = store.slot("array").unwrap();
                let new = filled(seed, range(a, b).len());
                slot.store_range(range(a, b).start, &new.as_slice().into()).unwrap();
                model[range(a, b)].copy_from_slice(&new);
                assert_eq!(slot.load(), Data::Array(model.as_slice().into()));
            }
            Step::Lock => {
                changes = false;
                drop(array.lock().unwrap());
            }
            Step::Reopen => {
                changes = false;
                drop((array, store));
                store = options.open(&path).unwrap();
                array = store.array::<T>("array", len).unwrap();
            }
        }
        assert_eq!(array.load(), model, "{step:?}");
        assert_eq!(array.version(), version + u64::from(changes), "{step:?}");
        version = array.version();
        let (some, middle) = (array.load_range(len / 3..).unwrap(), array.get(len / 2).unwrap());
        assert_eq!((some.as_slice(), middle), (&model[len / 3..], model[len / 2]));
        let mut out = vec![T::default(); len];
        assert_eq!(array.load_into(&mut out), version);
        assert_eq!(out, model);
    }
    assert_eq!((before.load(), after.load()), (vec![1, 2, 3], vec![4, 5, 6]));
}

macro_rules! element {
    ($($t:ident)*) => {$(
        proptest! {
            #![proptest_config(cases(20))]
            #[test]
            fn $t(
                // Around the ends of words and cache lines, and beyond a page.
                len in prop_oneof![9 => 1usize..40, 2 => 60usize..70, 1 => 4_090usize..4_110],
                areas in prop_oneof![Just(2usize), Just(4), Just(8)],
                steps in prop::collection::vec(step(), 1..40),
            ) {
                follow::<std::primitive::$t>(len, areas, &steps);
            }
        }
    )*};
}
element!(bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64);

#[test]
fn each_dimension_counts() {
    fn check<const N: usize>(dims: [usize; N]) {
        let store = Store::temporary().unwrap();
        let array = store.array::<u16>("array", dims).unwrap();
        assert_eq!(array.shape().dims(), dims);
        let len: usize = dims.iter().product();
        array.store(&(0..len as u16).collect::<Vec<_>>()).unwrap();
        // All indices in row-major order, as an odometer counts.
        let mut index = [0; N];
        for position in 0..len {
            assert_eq!(array.get(index).unwrap(), position as u16);
            assert_eq!(array.fetch_add(index, 1).unwrap(), position as u16);
            assert_eq!(array.get(position).unwrap(), position as u16 + 1);
            array.set(index, position as u16).unwrap();
            for d in (0..N).rev() {
                index[d] += 1;
                if index[d] < dims[d] {
                    break;
                }
                index[d] = 0;
            }
        }
        for d in 0..N {
            let mut outside = [0; N];
            outside[d] = dims[d];
            assert!(matches!(array.get(outside), Err(Error::Index { .. })));
        }
    }
    check([7]);
    check([3, 5]);
    check([2, 3, 4]);
    check([3, 1, 2, 5]);
}

/// Operations on the bits of one element do not touch its neighbours in the same word.
#[test]
fn bitwise_operations_leave_the_neighbours_alone() {
    fn check<T: Number + Bits>(ones: T, low: T) {
        let store = Store::temporary().unwrap();
        for len in 1..20 {
            let array = store.array::<T>(&format!("{len}"), len).unwrap();
            for at in 0..len {
                array.store(&vec![low; len]).unwrap();
                array.fetch_or(at, ones).unwrap();
                array.fetch_xor(at, low).unwrap();
                array.fetch_and(at, !low).unwrap();
                for i in 0..len {
                    let expected = if i == at { !low } else { low };
                    assert_eq!(array.get(i).unwrap(), expected, "{i} of {len}, changed {at}");
                }
            }
        }
    }
    check::<u8>(!0, 1);
    check::<i16>(!0, 1);
    check::<u32>(!0, 1);
    check::<u64>(!0, 1);
}

#[test]
#[should_panic(expected = "one element each")]
fn load_into_another_length_panics() {
    let store = Store::temporary().unwrap();
    store.array::<u8>("array", 3).unwrap().load_into(&mut [0; 4]);
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn text_and_bytes(
        capacity in 1usize..60,
        areas in prop_oneof![Just(2usize), Just(4), Just(8)],
        texts in prop::collection::vec("\\PC{0,30}", 1..12),
    ) {
        let store = Store::temporary().unwrap();
        let define = || Define::new().areas(areas);
        let text = store.text_with("text", capacity, define()).unwrap();
        let bytes = store.bytes_with("bytes", capacity, define()).unwrap();
        prop_assert_eq!((text.load(), bytes.load()), (String::new(), vec![]));
        let mut now = String::new();
        for new in texts {
            let (in_text, in_bytes) = (text.store(&new), bytes.store(new.as_bytes()));
            if new.len() <= capacity {
                in_text.unwrap();
                in_bytes.unwrap();
                now = new;
            } else {
                // Never cut.
                for refused in [in_text, in_bytes] {
                    let told = matches!(refused, Err(Error::TooLong { capacity: c, length, .. })
                        if c == capacity && length == new.len());
                    prop_assert!(told);
                }
            }
            prop_assert_eq!(&text.load(), &now);
            prop_assert_eq!(&bytes.load(), now.as_bytes());
            let (again, version) = text.load_versioned();
            prop_assert_eq!((again, version), (now.clone(), text.version()));
        }
        // Exactly full, and empty again.
        bytes.store(&vec![0xff; capacity]).unwrap();
        prop_assert_eq!(bytes.load(), vec![0xff; capacity]);
        bytes.store(&[]).unwrap();
        prop_assert_eq!(bytes.load(), vec![0u8; 0]);
    }
}
