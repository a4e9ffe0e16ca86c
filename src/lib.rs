//! Airdock runs Karmada as a service. See `docs/` for concepts; `src/api` for the custom resources.

#![forbid(unsafe_code)]

pub mod api;
pub mod application;
pub mod chart;
pub mod cli;
pub mod controllers;
pub mod distribute;
pub mod engine;
pub mod instance;
pub mod interpret;
pub mod karmada;
pub mod limits;
pub mod machinery;
pub mod operator;
pub mod overrides;
pub mod pki;
pub mod placement;
pub mod runtime;
