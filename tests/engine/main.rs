//! The engine on a real plane with real members: etcd and four kube-apiservers on loopback.
//!
//! The engine runs inside the test, in a runtime of its own, so that it can be ended at any request.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod claims;
mod deep;
mod env;
mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod kill;
mod lifecycle;
mod migration;
mod policies;
mod propagate;
mod scale;
mod writes;
