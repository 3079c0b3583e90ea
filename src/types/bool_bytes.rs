//! The bytes of an array of bools.

#![allow(unsafe_code)]

/// Lets `read` overwrite the bytes of `elements`, then makes each of them a `bool` again, even if
/// `read` panics: 0 is false, anything else true.
pub(crate) fn with_bool_bytes<R>(elements: &mut [bool], read: impl FnOnce(&mut [u8]) -> R) -> R {
    struct Normalize {
        at: *mut u8,
        len: usize,
    }
    impl Normalize {
        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: `at` and `len` come from a live, exclusive `&mut [bool]` that is not used
            // while this exists. A bool is one initialised byte, and so is a u8.
            unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
        }
    }
    impl Drop for Normalize {
        fn drop(&mut self) {
            for byte in self.bytes() {
                *byte = u8::from(*byte != 0);
            }
        }
    }
    let mut bytes = Normalize { at: elements.as_mut_ptr().cast(), len: elements.len() };
    read(bytes.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_read_as_bools() {
        let mut bools = [true; 4];
        with_bool_bytes(&mut bools, |bytes| bytes.copy_from_slice(&[0, 1, 2, 255]));
        assert_eq!(bools, [false, true, true, true]);
    }
}
