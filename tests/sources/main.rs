//! What the sources promise: their layout, the compiler that they need, and what the pages say of them.

mod architecture;
mod minimum_rust;
mod pages;
