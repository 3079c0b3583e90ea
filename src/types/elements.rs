//! Scalars of one type that is known only at run time.

use std::alloc::Layout;

use crate::types::element::Element;
use crate::types::scalar::Scalar;
use crate::types::scalar_type::ScalarType;

/// Scalars of one type, packed as in the file: little-endian, row-major.
///
/// ```
/// use slotfile::{Elements, Scalar};
/// let e = Elements::from([1.5f64, 2.5]);
/// assert_eq!(e.len(), 2);
/// assert_eq!(e.get(1), Some(Scalar::F64(2.5)));
/// assert_eq!(e.to_vec::<f64>(), Some(vec![1.5, 2.5]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Elements {
    scalar_type: ScalarType,
    bytes: Vec<u8>,
}

impl Elements {
    /// `len` zeros (or `false`s).
    pub fn zeros(scalar_type: ScalarType, len: usize) -> Elements {
        Elements::try_zeros(scalar_type, len).unwrap_or_else(|none| none.abort())
    }

    pub(crate) fn try_clone(&self) -> Result<Elements, NoMemory> {
        let mut bytes = reserved(self.bytes.len())?;
        bytes.extend_from_slice(&self.bytes);
        Ok(Elements { scalar_type: self.scalar_type, bytes })
    }

    pub(crate) fn try_zeros(scalar_type: ScalarType, len: usize) -> Result<Elements, NoMemory> {
        Ok(Elements { scalar_type, bytes: zeros(len * scalar_type.size())? })
    }

    /// The elements in these little-endian bytes; `None` if there is an incomplete one at the end.
    pub fn from_bytes(scalar_type: ScalarType, bytes: Vec<u8>) -> Option<Elements> {
        bytes.len().is_multiple_of(scalar_type.size()).then_some(Elements { scalar_type, bytes })
    }

    /// Elements of this type; `None` if one of them has another type.
    pub fn from_scalars(
        scalar_type: ScalarType,
        scalars: impl IntoIterator<Item = Scalar>,
    ) -> Option<Elements> {
        let mut bytes = Vec::new();
        for scalar in scalars {
            if scalar.scalar_type() != scalar_type {
                return None;
            }
            bytes.extend_from_slice(&scalar.to_bits().to_le_bytes()[..scalar_type.size()]);
        }
        Some(Elements { scalar_type, bytes })
    }

    /// The type of each element.
    pub fn scalar_type(&self) -> ScalarType {
        self.scalar_type
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.scalar_type.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One element; `None` beyond the end.
    pub fn get(&self, index: usize) -> Option<Scalar> {
        let size = self.scalar_type.size();
        let bytes = self.bytes.get(index.checked_mul(size)?..)?.get(..size)?;
        let mut word = [0; 8];
        word[..size].copy_from_slice(bytes);
        Some(Scalar::from_bits(u64::from_le_bytes(word), self.scalar_type))
    }

    /// Replaces one element. Panics beyond the end, or if the type differs.
    pub fn set(&mut self, index: usize, scalar: Scalar) {
        assert_eq!(scalar.scalar_type(), self.scalar_type, "elements have one type");
        let size = self.scalar_type.size();
        let bytes = scalar.to_bits().to_le_bytes();
        self.bytes[index * size..(index + 1) * size].copy_from_slice(&bytes[..size]);
    }

    /// The elements, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Scalar> + '_ {
        (0..self.len()).map(|i| self.get(i).unwrap_or(Scalar::zero(self.scalar_type)))
    }

    /// All elements as `T`, if that is their type.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        if self.scalar_type != T::TYPE {
            return None;
        }
        let mut all = vec![T::default(); self.len()];
        T::with_bytes(&mut all, |bytes| bytes.copy_from_slice(&self.bytes));
        Some(all)
    }

    /// Their little-endian bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl<T: Element> From<&[T]> for Elements {
    fn from(elements: &[T]) -> Elements {
        Elements { scalar_type: T::TYPE, bytes: T::bytes(elements).to_vec() }
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Elements {
    fn from(elements: [T; N]) -> Elements {
        Elements::from(elements.as_slice())
    }
}

/// There is not enough memory for this many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory {
    pub(crate) need: usize,
}

impl NoMemory {
    /// Ends the program, as std's collections do.
    pub(crate) fn abort(self) -> ! {
        let layout = Layout::array::<u8>(self.need);
        std::alloc::handle_alloc_error(layout.unwrap_or(Layout::new::<u8>()))
    }
}

/// An empty vector with room for so many bytes.
pub(crate) fn reserved(len: usize) -> Result<Vec<u8>, NoMemory> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| NoMemory { need: len })?;
    Ok(bytes)
}

/// `len` zeros, which take no memory until they are used.
pub(crate) fn zeros(len: usize) -> Result<Vec<u8>, NoMemory> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| NoMemory { need: len })
}

/// So many elements of the default value.
pub(crate) fn default_elements<T: Copy + Default>(len: usize) -> Result<Vec<T>, NoMemory> {
    let mut elements = Vec::new();
    let need = len.saturating_mul(size_of::<T>());
    elements.try_reserve_exact(len).map_err(|_| NoMemory { need })?;
    elements.resize(len, T::default());
    Ok(elements)
}
