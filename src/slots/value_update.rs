//! Updates of values: in one step, and by a user's closure, which may run again.
//!
//! An update of the same value inside that closure would make the outer one lose, again and again.
//! So a thread notes which values it is updating, and refuses the inner update.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;

use crate::attachment::attach::Failure;
use crate::error::Result;
use crate::protocol;
use crate::slots::handle::Handle;
use crate::store::session::Session;

thread_local! {
    /// The scalars that this thread is in the middle of updating. A second update inside would
    /// make the outer one lose for ever. (Never dropped: other thread-locals may still update when
    /// they are dropped later. The end of the last but one update frees the memory.)
    static UPDATING: RefCell<ManuallyDrop<Vec<SlotIdentity>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// The outermost of them; most updates have no other.
    static OUTERMOST: Cell<SlotIdentity> = const { Cell::new((0, 0)) };
    /// How many there are: most updates look at nothing else.
    static UPDATES: Cell<usize> = const { Cell::new(0) };
}

/// The session's address and the slot's offset.
type SlotIdentity = (usize, u64);

/// Marks an update of a scalar by a user's closure while it exists.
pub(crate) struct Updating;

impl Drop for Updating {
    fn drop(&mut self) {
        let left = UPDATES.get() - 1;
        UPDATES.set(left);
        if left > 0 {
            UPDATING.with_borrow_mut(|inner| {
                inner.pop();
                if inner.is_empty() {
                    **inner = Vec::new();
                }
            });
        }
    }
}

fn identity(session: &Session, slot: u64) -> SlotIdentity {
    (std::ptr::from_ref(session).addr(), slot)
}

/// Whether this thread is inside an update of this value.
#[inline]
pub(crate) fn is_updating(session: &Session, slot: u64) -> bool {
    UPDATES.get() > 0 && {
        let this = identity(session, slot);
        OUTERMOST.get() == this || UPDATING.with_borrow(|inner| inner.contains(&this))
    }
}

/// Operations on a value.
impl Handle {
    /// Replaces the value, see [`protocol::update_scalar`]. `f` is not the user's, or runs
    /// inside [`Handle::begin_update`].
    #[inline]
    pub(crate) fn replace(
        &self,
        mut f: impl FnMut(u64) -> Option<u64>,
    ) -> Result<std::result::Result<u64, u64>> {
        self.begin_write()?;
        match protocol::update_scalar(&self.memory, &mut f) {
            Some(result) => Ok(result),
            None => self.replace_locked(f),
        }
    }

    /// The same, when somebody holds the slot's lock.
    #[cold]
    #[inline(never)]
    fn replace_locked(
        &self,
        f: impl FnMut(u64) -> Option<u64>,
    ) -> Result<std::result::Result<u64, u64>> {
        let mut deadline = self.deadline();
        let guarded = || self.is_guarded();
        protocol::update_locked(&self.memory, self.attachment(), &mut deadline, guarded, f)
            .map_err(|failure| self.lock_error(failure, &deadline))
    }

    /// An error if this thread is inside an update of this value.
    #[inline]
    pub(crate) fn check_not_updating(&self) -> Result<()> {
        match UPDATES.get() > 0 && is_updating(self.session(), self.offset()) {
            false => Ok(()),
            true => Err(self.lock_error(Failure::Deadlock, &self.deadline())),
        }
    }

    /// Begins an update by a user's closure.
    pub(crate) fn begin_update(&self) -> Result<Updating> {
        self.check_not_updating()?;
        let this = identity(self.session(), self.offset());
        match UPDATES.get() {
            0 => OUTERMOST.set(this),
            _ => UPDATING.with_borrow_mut(|inner| inner.push(this)),
        }
        UPDATES.set(UPDATES.get() + 1);
        Ok(Updating)
    }
}
