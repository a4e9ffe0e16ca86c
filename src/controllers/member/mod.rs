//! Memberships.
pub mod error;
pub mod plan;
pub mod validate;
