//! What the sources promise: their layout, the compiler version that they need, what the pages say
//! of them, and that bugs can be planted in them.

mod architecture;
mod minimum_rust;
mod pages;
mod planted_bugs;
