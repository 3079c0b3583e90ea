//! Arrays in private memory whose parts are made as they are needed.

use once_cell::race::OnceBox;

/// Chunks of many elements, each made when it is first asked for; all stay as long as this
/// does. Without locks: the child of a fork could find one taken for ever.
#[derive(Debug)]
pub(crate) struct Chunks<C> {
    chunks: Box<[OnceBox<C>]>,
}

impl<C> Chunks<C> {
    /// Room for so many.
    pub(crate) fn new(count: u64) -> Chunks<C> {
        Chunks { chunks: (0..count).map(|_| OnceBox::new()).collect() }
    }

    /// This one, if it is made. Panics if there is no room for it.
    #[inline]
    pub(crate) fn get(&self, chunk: usize) -> Option<&C> {
        self.chunks[chunk].get()
    }

    /// This one; where it is not made yet, this `empty` one. Panics if there is no room for it.
    pub(crate) fn get_or_make(&self, chunk: usize, empty: impl FnOnce() -> C) -> &C {
        self.chunks[chunk].get_or_init(|| Box::new(empty()))
    }
}
