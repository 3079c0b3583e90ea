//! Values follow the conventions of std's atomics: each operation against std's own
//! arithmetic, on all eleven types.

use crate::common;
use proptest::prelude::*;
use slotfile::{Define, Element, Number, Store, Value};

fn cases() -> ProptestConfig {
    let cases = if common::long() { 20_000 } else { 300 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A value that is `a`, in a store that all cases share (each has its own slot's name).
fn value<T: Element>(store: &Store, a: T) -> Value<T> {
    let value = store.value::<T>(std::any::type_name::<T>()).unwrap();
    value.store(a).unwrap();
    assert_eq!(bits(value.load()), bits(a));
    value
}

/// The bit pattern, which tells apart NaNs and zeros that `Debug` does not.
fn bits<T: Element>(x: T) -> Vec<u8> {
    slotfile::Elements::from([x]).as_bytes().to_vec()
}

macro_rules! integers {
    ($($t:ident $atomic:ident)*) => {$(
        proptest! {
            #![proptest_config(cases())]
            #[test]
            fn $t(a in any::<std::primitive::$t>(), b in any::<std::primitive::$t>(), extreme in 0..4) {
                use std::sync::atomic::{$atomic, Ordering::SeqCst};
                // The ends of the range come up too rarely by themselves.
                let a = match extreme {
                    0 => std::primitive::$t::MAX,
                    1 => std::primitive::$t::MIN,
                    _ => a,
                };
                let store = Store::temporary().unwrap();
                let value = value(&store, a);
                let array = store.array::<std::primitive::$t>("array", 3).unwrap();
                let reference = $atomic::new(a);
                macro_rules! same {
                    ($op:ident) => {
                        array.store(&[b, reference.load(SeqCst), b]).unwrap();
                        let before = reference.$op(b, SeqCst);
                        prop_assert_eq!(value.$op(b).unwrap(), before);
                        prop_assert_eq!(array.$op(1, b).unwrap(), before);
                        prop_assert_eq!(value.load(), reference.load(SeqCst));
                        prop_assert_eq!(array.load(), [b, reference.load(SeqCst), b]);
                    };
                }
                same!(fetch_add);
                same!(fetch_sub);
                same!(fetch_sub);
                same!(fetch_xor);
                same!(fetch_min);
                same!(swap);
                same!(fetch_max);
                same!(fetch_or);
                same!(fetch_and);
                let now = reference.load(SeqCst);
                prop_assert_eq!(value.fetch_nand(b).unwrap(), reference.fetch_nand(b, SeqCst));
                prop_assert_eq!(value.load(), reference.load(SeqCst));
                array.store(&[b, reference.load(SeqCst), b]).unwrap();
                for (current, new) in [(now, a), (reference.load(SeqCst), a), (b, now)] {
                    let outcome = reference.compare_exchange(current, new, SeqCst, SeqCst);
                    prop_assert_eq!(value.compare_exchange(current, new).unwrap(), outcome);
                    prop_assert_eq!(array.compare_exchange(1, current, new).unwrap(), outcome);
                    prop_assert_eq!(value.load(), reference.load(SeqCst));
                    prop_assert_eq!(array.get(1).unwrap(), value.load());
                }
                let f = |x: std::primitive::$t| (x & 1 == 1).then(|| x.rotate_left(3));
                let outcome = reference.fetch_update(SeqCst, SeqCst, f);
                prop_assert_eq!(value.try_update(f).unwrap(), outcome);
                prop_assert_eq!(value.load(), reference.load(SeqCst));
            }
        }
    )*};
}

integers! {
    i8 AtomicI8  i16 AtomicI16  i32 AtomicI32  i64 AtomicI64
    u8 AtomicU8  u16 AtomicU16  u32 AtomicU32  u64 AtomicU64
}

/// The floats std has no atomics for: its own operators, bit by bit.
macro_rules! floats {
    ($($t:ident)*) => {$(
        proptest! {
            #![proptest_config(cases())]
            #[test]
            fn $t(a in prop::num::$t::ANY, b in prop::num::$t::ANY) {
                type T = std::primitive::$t;
                let store = Store::temporary().unwrap();
                let value = value(&store, a);
                let array = store.array::<T>("array", 3).unwrap();
                // A NaN's payload is not defined by arithmetic: any NaN is as good.
                let same = |x: T, y: T| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
                let mut now = a;
                let ops: [(fn(&Value<T>, T) -> _, fn(&slotfile::Array<T>, T) -> _, fn(T, T) -> T); 5] = [
                    (|v, b| v.fetch_add(b), |v, b| v.fetch_add(1, b), |a, b| a + b),
                    (|v, b| v.fetch_sub(b), |v, b| v.fetch_sub(1, b), |a, b| a - b),
                    (|v, b| v.fetch_min(b), |v, b| v.fetch_min(1, b), T::min),
                    (|v, b| v.fetch_max(b), |v, b| v.fetch_max(1, b), T::max),
                    (|v, b| v.swap(b), |v, b| v.swap(1, b), |_, b| b),
                ];
                for (of_value, of_array, reference) in ops {
                    array.store(&[b, now, b]).unwrap();
                    prop_assert!(same(of_value(&value, b).unwrap(), now));
                    prop_assert!(same(of_array(&array, b).unwrap(), now));
                    now = reference(now, b);
                    let there = value.load();
                    prop_assert!(same(there, now) || there == now, "{there} {now}");
                    let elements = array.load();
                    prop_assert_eq!(elements[0].to_bits(), b.to_bits());
                    prop_assert_eq!(elements[2].to_bits(), b.to_bits());
                    // The same operation, compiled apart: another NaN, or zero, is as good.
                    prop_assert!(same(elements[1], there) || elements[1] == there);
                    now = there;
                }
                // Bit by bit: a NaN equals itself.
                prop_assert!(value.compare_exchange(now, a).unwrap().is_ok());
                prop_assert_eq!(value.load().to_bits(), a.to_bits());
                prop_assert!(array.compare_exchange(1, now, a).unwrap().is_ok());
                prop_assert_eq!(array.get(1).unwrap().to_bits(), a.to_bits());
            }
        }
    )*};
}

floats!(f32 f64);

#[test]
fn bool() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let store = Store::temporary().unwrap();
    let array = store.array::<bool>("array", 3).unwrap();
    for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
        let value = value(&store, a);
        macro_rules! same {
            ($($op:ident)*) => {$(
                let reference = AtomicBool::new(a);
                value.store(a).unwrap();
                assert_eq!(value.$op(b).unwrap(), reference.$op(b, SeqCst));
                assert_eq!(value.load(), reference.load(SeqCst));
            )*};
        }
        same!(fetch_and fetch_or fetch_xor fetch_nand swap);
        macro_rules! same_in_array {
            ($($op:ident)*) => {$(
                let reference = AtomicBool::new(a);
                array.store(&[b, a, b]).unwrap();
                assert_eq!(array.$op(1, b).unwrap(), reference.$op(b, SeqCst));
                assert_eq!(array.load(), [b, reference.load(SeqCst), b]);
            )*};
        }
        same_in_array!(fetch_and fetch_or fetch_xor swap);
        value.store(a).unwrap();
        let reference = AtomicBool::new(a);
        let outcome = reference.compare_exchange(b, !b, SeqCst, SeqCst);
        assert_eq!(value.compare_exchange(b, !b).unwrap(), outcome);
        assert_eq!(value.load(), reference.load(SeqCst));
    }
}

#[test]
fn row_43_overflow_wraps() {
    let store = Store::temporary().unwrap();
    let byte = store.value_with::<u8>("u8", Define::new().initial(255u8)).unwrap();
    assert_eq!((byte.fetch_add(1).unwrap(), byte.load()), (255, 0));
    assert_eq!((byte.fetch_sub(1).unwrap(), byte.load()), (0, 255));
    let long = store.value_with::<i64>("i64", Define::new().initial(i64::MAX)).unwrap();
    assert_eq!((long.fetch_add(1).unwrap(), long.load()), (i64::MAX, i64::MIN));
}

/// As documented: between a NaN and a number, the number stays; comparing is by bits.
#[test]
fn row_43_nan_in_min_max_and_compare_exchange() {
    fn check<T: Number + From<f32> + std::ops::Neg<Output = T>>(store: &Store) {
        let (nan, one) = (T::from(f32::NAN), T::from(1.0));
        let value = value(store, one);
        value.fetch_min(nan).unwrap();
        assert_eq!(value.load(), one);
        value.fetch_max(nan).unwrap();
        assert_eq!(value.load(), one);
        value.store(nan).unwrap();
        value.fetch_min(one).unwrap();
        assert_eq!(value.load(), one);
        value.store(nan).unwrap();
        value.fetch_max(one).unwrap();
        assert_eq!(value.load(), one);
        value.store(nan).unwrap();
        assert!(value.compare_exchange(one, one).unwrap().is_err());
        assert!(value.compare_exchange(nan, one).unwrap().is_ok());
        let zero = T::from(0.0);
        value.store(zero).unwrap();
        assert!(value.compare_exchange(-zero, one).unwrap().is_err(), "0.0 is not -0.0");
        value.fetch_add(nan).unwrap();
        assert_eq!(bits(value.load()), bits(nan));
    }
    let store = Store::temporary().unwrap();
    check::<f32>(&store);
    check::<f64>(&store);
}
