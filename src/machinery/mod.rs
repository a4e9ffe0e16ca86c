//! What Go programs take from apimachinery: conditions, comparison, quantities, rules for names, what an error means. Pure.

pub mod conditions;
pub mod contains;
pub mod error;
pub mod names;
pub mod quantity;
