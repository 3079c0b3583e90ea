//! The descriptors that this process has read and checked. One that is defined never
//! changes; so it is done once, however often its slot is opened.

use std::sync::Arc;

use once_cell::race::OnceBox;

use crate::error::Result;
use crate::layout::Descriptor;

/// By the first line of each, in chunks that are made as they are needed. Without locks: the
/// child of a fork could find one taken for ever.
#[derive(Debug)]
pub(crate) struct Known {
    chunks: Box<[OnceBox<Chunk>]>,
}

type Chunk = [OnceBox<Arc<Descriptor>>; CHUNK];

/// Lines of a chunk.
const CHUNK: usize = 1024;

impl Known {
    /// None yet, of a directory of so many lines.
    pub(crate) fn new(lines: u64) -> Known {
        let chunks = lines.div_ceil(CHUNK as u64);
        Known { chunks: (0..chunks).map(|_| OnceBox::new()).collect() }
    }

    /// The descriptor at this line, which is one of the directory; by `read` if it is not
    /// known yet.
    pub(crate) fn get(
        &self,
        line: u32,
        read: impl FnOnce() -> Result<Descriptor>,
    ) -> Result<Arc<Descriptor>> {
        let (chunk, at) = (line as usize / CHUNK, line as usize % CHUNK);
        let empty = || Box::new([const { OnceBox::new() }; CHUNK]);
        let known = self.chunks[chunk].get_or_init(empty)[at]
            .get_or_try_init(|| read().map(|descriptor| Box::new(Arc::new(descriptor))))?;
        Ok(Arc::clone(known))
    }
}
