//! The content of a slot whose type is known only at run time, and its bytes in the file.

use crate::types::element::Element;
use crate::types::elements::{Elements, NoMemory, reserved};
use crate::types::scalar::Scalar;
use crate::types::scalar_type::ScalarType;
use crate::types::slot_type::SlotType;

/// The content of a slot of any type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Data {
    /// A value's scalar, or a counter's sum.
    Scalar(Scalar),
    /// An array's elements, or a buffer's.
    Array(Elements),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl<T: Element> From<T> for Data
where
    Scalar: From<T>,
{
    fn from(x: T) -> Data {
        Data::Scalar(x.into())
    }
}

impl From<Scalar> for Data {
    fn from(x: Scalar) -> Data {
        Data::Scalar(x)
    }
}

impl From<Elements> for Data {
    fn from(x: Elements) -> Data {
        Data::Array(x)
    }
}

impl<T: Element> From<&[T]> for Data {
    fn from(elements: &[T]) -> Data {
        Data::Array(elements.into())
    }
}

impl<T: Element> From<Vec<T>> for Data {
    fn from(elements: Vec<T>) -> Data {
        Data::Array(elements.as_slice().into())
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Data {
    fn from(elements: [T; N]) -> Data {
        Data::Array(elements.into())
    }
}

impl<T: Element, const N: usize> From<&[T; N]> for Data {
    fn from(elements: &[T; N]) -> Data {
        Data::Array(elements.as_slice().into())
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Data {
        Data::Text(text.to_owned())
    }
}

impl From<String> for Data {
    fn from(text: String) -> Data {
        Data::Text(text)
    }
}

/// Why some data cannot be the content of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContentError {
    Type { asked: SlotType },
    Length { expected: usize, found: usize },
    TooLong { capacity: usize, length: usize },
    Memory(NoMemory),
}

impl From<NoMemory> for ContentError {
    fn from(none: NoMemory) -> ContentError {
        ContentError::Memory(none)
    }
}

/// Bytes of the length word at the start of a text's area.
pub(crate) const TEXT_LEN: usize = 8;

/// The content of a text's area: its length, then its bytes.
pub(crate) fn text_content(text: &[u8], capacity: usize) -> Result<Vec<u8>, ContentError> {
    if text.len() > capacity {
        return Err(ContentError::TooLong { capacity, length: text.len() });
    }
    let mut content = reserved(TEXT_LEN + text.len())?;
    content.extend_from_slice(&(text.len() as u64).to_le_bytes());
    content.extend_from_slice(text);
    Ok(content)
}

impl Data {
    /// The bytes of this data in a slot of this type.
    pub(crate) fn to_content(&self, slot_type: &SlotType) -> Result<Vec<u8>, ContentError> {
        match (self, slot_type) {
            (Data::Scalar(x), SlotType::Value(t)) if x.scalar_type() == *t => {
                Ok(x.to_bits().to_le_bytes()[..t.size()].to_vec())
            }
            (Data::Array(elements), SlotType::Array(t, shape) | SlotType::Buffer(t, shape))
                if elements.scalar_type() == *t =>
            {
                let (expected, found) = (shape.len(), elements.len());
                if expected != found {
                    return Err(ContentError::Length { expected, found });
                }
                Ok(elements.try_clone()?.into_bytes())
            }
            // The first stripe has all of it.
            (Data::Scalar(Scalar::I64(x)), SlotType::Counter) => {
                let mut content = vec![0; slot_type.content_len().unwrap_or(0)];
                content[..8].copy_from_slice(&x.to_le_bytes());
                Ok(content)
            }
            (Data::Text(text), SlotType::Text(capacity)) => {
                text_content(text.as_bytes(), *capacity)
            }
            (Data::Bytes(bytes), SlotType::Bytes(capacity)) => text_content(bytes, *capacity),
            // A `Vec<u8>` or `b"..."` becomes this.
            (Data::Array(bytes), SlotType::Bytes(capacity))
                if bytes.scalar_type() == ScalarType::U8 =>
            {
                text_content(bytes.as_bytes(), *capacity)
            }
            _ => Err(ContentError::Type { asked: self.slot_type() }),
        }
    }

    /// The smallest type that can hold this data.
    fn slot_type(&self) -> SlotType {
        match self {
            Data::Scalar(x) => SlotType::Value(x.scalar_type()),
            Data::Array(elements) => SlotType::Array(elements.scalar_type(), elements.len().into()),
            Data::Text(text) => SlotType::Text(text.len()),
            Data::Bytes(bytes) => SlotType::Bytes(bytes.len()),
        }
    }
}
