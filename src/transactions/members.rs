//! [`Members`]: which slots a group has, and what their contents are.

use crate::error::{Error, Result};
use crate::slots::handle::Handle;
use crate::transactions::transactional::Transactional;
use crate::transactions::transactional::sealed::{Sealed, View, ViewMut};

/// The slots of a [`Group`](crate::Group): a tuple of up to twelve handles of any kinds, or an
/// array, a `Vec` or a slice of handles of one kind. Each handle is owned or borrowed. Sealed.
pub trait Members: Sealed {
    /// What [`load`](crate::Group::load) returns: a tuple, an array or a `Vec` of what the `load`
    /// of each handle returns.
    type Contents;
    /// What [`store`](crate::Group::store) takes: for a tuple, a tuple of what the `store` of each
    /// handle takes; else a reference to what `load` returns, or to a slice of it.
    type New<'a>;

    #[doc(hidden)]
    fn count(&self) -> usize;
    #[doc(hidden)]
    fn handle(&self, at: usize) -> &Handle;
    /// An error if one of them cannot take part.
    #[doc(hidden)]
    fn check(&self) -> Result<()>;
    #[doc(hidden)]
    fn blank(&self) -> Self::Contents;
    /// Gives `contents` as many places as there are slots.
    #[doc(hidden)]
    fn fit(&self, _contents: &mut Self::Contents) {}
    #[doc(hidden)]
    fn load_one(
        &self,
        at: usize,
        view: &mut impl View,
        contents: &mut Self::Contents,
    ) -> Result<()>;
    #[doc(hidden)]
    fn load_all(&self, view: &mut impl View, contents: &mut Self::Contents) -> Result<()>;
    /// Stores what was loaded, or has become of it.
    #[doc(hidden)]
    fn store_all(&self, view: &mut impl ViewMut, contents: &Self::Contents) -> Result<()>;
    #[doc(hidden)]
    fn store_new(&self, view: &mut impl ViewMut, new: Self::New<'_>) -> Result<()>;
}

macro_rules! tuples {
    ($($len:literal: $($slot:ident $at:tt),+;)*) => {$(
        impl<$($slot: Transactional),+> Sealed for ($($slot,)+) {}

        impl<$($slot: Transactional),+> Members for ($($slot,)+) {
            type Contents = ($($slot::Content,)+);
            type New<'a> = ($($slot::New<'a>,)+);

            #[inline]
            fn count(&self) -> usize {
                $len
            }

            #[inline]
            fn handle(&self, at: usize) -> &Handle {
                match at {
                    $($at => self.$at.handle(),)+
                    _ => unreachable!("a group asks for its own slots"),
                }
            }

            fn check(&self) -> Result<()> {
                $(self.$at.check()?;)+
                Ok(())
            }

            fn blank(&self) -> Self::Contents {
                ($(self.$at.blank(),)+)
            }

            #[inline]
            fn load_one(
                &self,
                at: usize,
                view: &mut impl View,
                contents: &mut Self::Contents,
            ) -> Result<()> {
                match at {
                    $($at => self.$at.load_into(view, &mut contents.$at),)+
                    _ => unreachable!("a group asks for its own slots"),
                }
            }

            #[inline]
            fn load_all(
                &self,
                view: &mut impl View,
                contents: &mut Self::Contents,
            ) -> Result<()> {
                $(
                    view.next_is($at);
                    self.$at.load_into(view, &mut contents.$at)?;
                )+
                Ok(())
            }

            #[inline]
            fn store_all(
                &self,
                view: &mut impl ViewMut,
                contents: &Self::Contents,
            ) -> Result<()> {
                $(
                    view.next_is($at);
                    self.$at.store_content(view, &contents.$at)?;
                )+
                Ok(())
            }

            #[inline]
            fn store_new(&self, view: &mut impl ViewMut, new: Self::New<'_>) -> Result<()> {
                $(
                    view.next_is($at);
                    self.$at.store_to(view, new.$at)?;
                )+
                Ok(())
            }
        }
    )*};
}

tuples! {
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
    7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
    9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8;
    10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9;
    11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10;
    12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11;
}

/// Stores one content in each of these slots.
fn store_each<S: Transactional>(
    slots: &[S],
    view: &mut impl ViewMut,
    contents: &[S::Content],
) -> Result<()> {
    if slots.len() != contents.len() {
        let path = slots.first().map(|slot| slot.handle().attachment().path.clone());
        let (slots, contents) = (slots.len(), contents.len());
        let what = format!("{contents} contents for a group of {slots} slots; give one for each");
        return Err(Error::Invalid { path: path.unwrap_or_default(), slot: None, what });
    }
    for (at, (slot, content)) in slots.iter().zip(contents).enumerate() {
        view.next_is(at);
        slot.store_content(view, content)?;
    }
    Ok(())
}

/// What slices, arrays and `Vec`s of handles have in common.
macro_rules! of_one_kind {
    ($new:ty) => {
        type New<'a> = &'a $new;

        #[inline]
        fn count(&self) -> usize {
            self.len()
        }

        #[inline]
        fn handle(&self, at: usize) -> &Handle {
            self[at].handle()
        }

        fn check(&self) -> Result<()> {
            self.iter().try_for_each(S::check)
        }

        #[inline]
        fn load_one(
            &self,
            at: usize,
            view: &mut impl View,
            contents: &mut Self::Contents,
        ) -> Result<()> {
            self[at].load_into(view, &mut contents[at])
        }

        #[inline]
        fn load_all(&self, view: &mut impl View, contents: &mut Self::Contents) -> Result<()> {
            for (at, (slot, content)) in self.iter().zip(contents).enumerate() {
                view.next_is(at);
                slot.load_into(view, content)?;
            }
            Ok(())
        }

        #[inline]
        fn store_all(&self, view: &mut impl ViewMut, contents: &Self::Contents) -> Result<()> {
            store_each(self, view, contents)
        }

        #[inline]
        fn store_new(&self, view: &mut impl ViewMut, new: &$new) -> Result<()> {
            store_each(self, view, new)
        }
    };
}

impl<S: Transactional, const N: usize> Sealed for [S; N] {}

impl<S: Transactional, const N: usize> Members for [S; N] {
    type Contents = [S::Content; N];

    of_one_kind!([S::Content; N]);

    fn blank(&self) -> Self::Contents {
        self.each_ref().map(S::blank)
    }
}

macro_rules! of_any_number {
    ($($members:ty),*) => {$(
        impl<S: Transactional> Sealed for $members {}

        impl<S: Transactional> Members for $members {
            type Contents = Vec<S::Content>;

            of_one_kind!([S::Content]);

            fn blank(&self) -> Self::Contents {
                self.iter().map(S::blank).collect()
            }

            fn fit(&self, contents: &mut Self::Contents) {
                contents.truncate(self.len());
                contents.extend(self[contents.len()..].iter().map(S::blank));
            }
        }
    )*};
}

of_any_number!(Vec<S>, &[S]);
