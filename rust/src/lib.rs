//! Numerical kernels of polygate.
//!
//! Pure functions over slices and files: nothing here knows Python, except `py` behind the feature `python`.
//! Every result is the same for any number of threads; sums are in float64.

pub mod bootstrap;
pub mod caliper;
mod checks;
pub mod dot;
pub mod error;
pub mod logistic;
pub mod means;
pub mod normal;
pub mod placement;
pub mod products;
pub mod project;
#[cfg(feature = "python")]
mod py;
pub mod random;
pub mod ranking;
pub mod store;
pub mod threads;
pub mod threshold;
mod widen;
