//! Numerical kernels of polygate.
//!
//! Pure functions over slices and files: nothing here knows Python, except `py` behind the feature `python`.
//! Every result is the same for any number of threads; sums are in float64.

pub mod bootstrap;
pub mod error;
pub mod linear;
pub mod logistic;
pub mod numeric;
#[cfg(feature = "python")]
mod py;
pub mod ranking;
pub mod store;
