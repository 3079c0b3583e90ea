//! What the sources promise: their layout, and the compiler that they need.

mod architecture;
mod minimum_rust;
