//! The reconcilers of the operator, one directory per kind, and the pure functions that they share.

pub mod affinity;
pub mod member;
pub mod names;
pub mod stamp;
