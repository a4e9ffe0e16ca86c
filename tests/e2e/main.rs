//! Airdock on real clusters: the lab's host with the operator installed by Helm, and its members.
//!
//! `make test-e2e` brings all of that up. The tests share the lab, each in namespaces of its own; those that need a
//! plane with members share one. Tests that kill what the others need have the lab alone (`lab::alone`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod app;
mod bad_input;
#[allow(dead_code)]
#[path = "../harness/crash.rs"]
mod crash;
mod fleet;
mod full;
mod instance;
mod kill;
mod lab;
mod member;
mod permission;
