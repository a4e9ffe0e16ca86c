//! The reconcilers of the operator, one directory per kind.

pub mod affinity;
pub mod app;
