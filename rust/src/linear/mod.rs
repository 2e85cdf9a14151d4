//! Sums over the rows of activation stores: projections, class means, products of all pairs of values.

pub mod dot;
pub mod means;
pub mod products;
pub mod project;
