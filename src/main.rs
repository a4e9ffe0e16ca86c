//! The `airdock` binary: operator, engine and command line in one.

#![forbid(unsafe_code)]

use std::process::ExitCode;

// glibc's allocator keeps what a burst of list answers took; this one gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // Several crates bring rustls along; one provider is chosen here, before any connection is made.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("airdock: a TLS provider was installed before main");
        return ExitCode::FAILURE;
    }
    airdock::cli::main().await
}
