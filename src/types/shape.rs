//! The dimensions of arrays and buffers.

use std::fmt;

/// The dimensions of an array: one to four, each at least 1, row-major.
///
/// ```
/// use slotfile::Shape;
/// assert_eq!(Shape::from(6).len(), 6);
/// assert_eq!(Shape::from([480, 640]).dims(), &[480, 640]);
/// assert_eq!(Shape::from([480, 640]).to_string(), "480,640");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; Shape::MAX_DIMS],
    rank: u8,
}

impl Shape {
    /// The most dimensions an array can have.
    pub const MAX_DIMS: usize = 4;

    /// A shape of these dimensions; `None` unless there are one to four, each
    /// at least 1, whose product fits a `usize`.
    pub fn new(dims: &[usize]) -> Option<Shape> {
        let fits = (1..=Self::MAX_DIMS).contains(&dims.len())
            && !dims.contains(&0)
            && dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some();
        fits.then(|| {
            let mut all = [0; Self::MAX_DIMS];
            all[..dims.len()].copy_from_slice(dims);
            Shape { dims: all, rank: dims.len() as u8 }
        })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// Number of elements. 0 only for a shape that is not valid: a dimension is 0, or the product
    /// is too large (no store can define it).
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.dims().iter().try_fold(1usize, |n, d| n.checked_mul(*d)).unwrap_or(0)
    }

    pub(crate) fn is_valid(&self) -> bool {
        Shape::new(self.dims()).is_some()
    }

    /// The row-major position of these indices; `None` if one is out of range or their number is
    /// not that of the dimensions.
    pub fn position(&self, indices: &[usize]) -> Option<usize> {
        if indices.len() != self.rank as usize {
            return None;
        }
        indices.iter().zip(self.dims()).try_fold(0, |at, (i, d)| (i < d).then_some(at * d + i))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.dims().iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl From<usize> for Shape {
    fn from(len: usize) -> Shape {
        Shape::from([len])
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// The dimensions are checked when the slot is defined.
    fn from(dims: [usize; N]) -> Shape {
        const { assert!(N >= 1 && N <= Shape::MAX_DIMS, "a shape has one to four dimensions") };
        let mut all = [0; Shape::MAX_DIMS];
        all[..N].copy_from_slice(&dims);
        Shape { dims: all, rank: N as u8 }
    }
}
