//! What the sources promise: their layout, the compiler that they need, and what the pages say of them;
//! and that bugs can be planted into them.

mod architecture;
mod minimum_rust;
mod pages;
mod planted_bugs;
