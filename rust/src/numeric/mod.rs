//! What all kernels stand on: threads that can be stopped, random streams, the normal distribution, checks of input.

pub(crate) mod checks;
pub mod normal;
pub mod random;
pub mod threads;
