//! Arrays in private memory whose parts are made when they are needed.

use once_cell::race::OnceBox;

/// Chunks of many elements, each made when it is first asked for and kept as long as this lives.
/// Without locks: the child of a fork could find a lock held forever.
#[derive(Debug)]
pub(crate) struct LazyArray<C> {
    groups: Box<[OnceBox<Group<C>>]>,
}

/// The places of some chunks. They are made together, so that an empty array of a large store takes
/// little memory.
type Group<C> = [OnceBox<C>; GROUP];

const GROUP: usize = 64;

impl<C> LazyArray<C> {
    /// Room for `count` chunks.
    pub(crate) fn new(count: u64) -> LazyArray<C> {
        LazyArray { groups: (0..count.div_ceil(GROUP as u64)).map(|_| OnceBox::new()).collect() }
    }

    /// This chunk, if it has been made. Panics if there is no room for it.
    #[inline]
    pub(crate) fn get(&self, chunk: usize) -> Option<&C> {
        self.groups[chunk / GROUP].get()?[chunk % GROUP].get()
    }

    /// This chunk; if it has not been made yet, it becomes `empty`. Panics if there is no room for
    /// it.
    pub(crate) fn get_or_make(&self, chunk: usize, empty: impl FnOnce() -> C) -> &C {
        let group = || Box::new([const { OnceBox::new() }; GROUP]);
        let group = self.groups[chunk / GROUP].get_or_init(group);
        group[chunk % GROUP].get_or_init(|| Box::new(empty()))
    }
}
