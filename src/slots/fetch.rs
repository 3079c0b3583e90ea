//! The methods named as std's atomics have them, once for all kinds of slots.

/// Defines them for a kind of slot. `$fetch` is its method that replaces what is there by what a
/// closure makes of it, and returns what was there; `$index`, if the kind has elements, says which.
macro_rules! fetch_methods {
    ($kind:ident, $fetch:ident, $what:literal, $errors:literal $(, $index:ident)?) => {
        impl<T: Number> $kind<T> {
            #[doc = concat!("Adds to ", $what, ", wrapping around; returns what it was before.")]
            ///
            /// # Errors
            ///
            #[doc = $errors]
            #[inline]
            pub fn fetch_add(&self, $($index: impl ArrayIndex,)? n: T) -> Result<T> {
                self.$fetch($($index,)? |x| x.add(n))
            }

            #[doc = concat!(
                "Subtracts from ", $what, ", wrapping around; returns what it was before.",
            )]
            ///
            /// # Errors
            ///
            #[doc = $errors]
            pub fn fetch_sub(&self, $($index: impl ArrayIndex,)? n: T) -> Result<T> {
                self.$fetch($($index,)? |x| x.sub(n))
            }

            #[doc = concat!(
                "Replaces ", $what, " by `n` if that is less; returns what it was before.",
            )]
            /// Between a NaN and a number, the number stays, as in `f64::min`.
            ///
            /// # Errors
            ///
            #[doc = $errors]
            pub fn fetch_min(&self, $($index: impl ArrayIndex,)? n: T) -> Result<T> {
                self.$fetch($($index,)? |x| x.least(n))
            }

            #[doc = concat!(
                "Replaces ", $what, " by `n` if that is greater; returns what it was before.",
            )]
            /// Between a NaN and a number, the number stays, as in `f64::max`.
            ///
            /// # Errors
            ///
            #[doc = $errors]
            pub fn fetch_max(&self, $($index: impl ArrayIndex,)? n: T) -> Result<T> {
                self.$fetch($($index,)? |x| x.greatest(n))
            }
        }

        impl<T: Bits> $kind<T> {
            #[doc = concat!(
                "Bitwise \"and\" of ", $what, " and `bits`; returns what it was before.",
            )]
            ///
            /// # Errors
            ///
            #[doc = $errors]
            pub fn fetch_and(&self, $($index: impl ArrayIndex,)? bits: T) -> Result<T> {
                self.$fetch($($index,)? |x| x & bits)
            }

            #[doc = concat!(
                "Bitwise \"or\" of ", $what, " and `bits`; returns what it was before.",
            )]
            ///
            /// # Errors
            ///
            #[doc = $errors]
            pub fn fetch_or(&self, $($index: impl ArrayIndex,)? bits: T) -> Result<T> {
                self.$fetch($($index,)? |x| x | bits)
            }

            #[doc = concat!(
                "Bitwise \"exclusive or\" of ", $what, " and `bits`; returns what it was before.",
            )]
            ///
            /// # Errors
            ///
            #[doc = $errors]
            pub fn fetch_xor(&self, $($index: impl ArrayIndex,)? bits: T) -> Result<T> {
                self.$fetch($($index,)? |x| x ^ bits)
            }

            #[doc = concat!(
                "Bitwise \"not and\" of ", $what, " and `bits`; returns what it was before.",
            )]
            ///
            /// # Errors
            ///
            #[doc = $errors]
            pub fn fetch_nand(&self, $($index: impl ArrayIndex,)? bits: T) -> Result<T> {
                self.$fetch($($index,)? |x| !(x & bits))
            }
        }
    };
}
pub(crate) use fetch_methods;
