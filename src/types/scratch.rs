//! Memory for the private copies that updates work on: each thread keeps it from one to the next.

use std::cell::Cell;

use crate::types::elements::{NoMemory, default_elements};

/// The largest buffer that a thread keeps, in bytes.
const MOST_BYTES: usize = 64 << 10;

/// What a thread keeps for one type of elements.
pub(crate) type Kept<T> = Cell<Vec<T>>;

/// Runs `f` on so many elements, whose values mean nothing.
#[inline]
pub(crate) fn with_elements<T: Copy + Default, R>(
    kept: &'static std::thread::LocalKey<Kept<T>>,
    len: usize,
    f: impl FnOnce(&mut [T]) -> R,
) -> Result<R, NoMemory> {
    // Inside of another update, and in a thread that ends, there is none: then it is allocated.
    let mut elements = kept.try_with(Cell::take).unwrap_or_default();
    if elements.len() < len {
        elements = default_elements(len)?;
    }
    let result = f(&mut elements[..len]);
    if size_of_val(&elements[..]) <= MOST_BYTES {
        let _ = kept.try_with(|kept| kept.set(elements));
    }
    Ok(result)
}
