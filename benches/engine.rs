//! What the engine costs where there is much of everything: `make bench-engine`.
//!
//! The plane is a real etcd and kube-apiserver, the engine a process of its own; members are simulated where real ones
//! would not fit on one machine. Each case follows a report of Karmada's users. Raw figures are kept in `target/bench/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[path = "engine/burst.rs"]
mod burst;
mod engine_process;
#[path = "engine/fleet.rs"]
mod fleet;
#[path = "engine/flip.rs"]
mod flip;
#[path = "../tests/harness/mod.rs"]
mod harness;
#[path = "engine/memory.rs"]
mod memory;
mod plane;
mod process;
mod report;
#[path = "engine/restart.rs"]
mod restart;
mod simulated;
#[path = "engine/workload.rs"]
mod workload;

use report::Report;

const CASES: [&str; 4] = ["memory", "restart", "burst", "flip"];

fn main() {
    // Cargo passes flags such as --bench; words choose cases.
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = words.iter().find(|word| !CASES.contains(&word.as_str())) {
        panic!("there is no case {unknown}; there are {CASES:?}");
    }
    let wanted = |case: &str| words.is_empty() || words.iter().any(|word| word == case);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut report = Report::default();
    runtime.block_on(async {
        for case in CASES.into_iter().filter(|case| wanted(case)) {
            println!("=== {case}");
            match case {
                "memory" => memory::run(&mut report).await,
                "restart" => restart::run(&mut report).await,
                "burst" => burst::run(&mut report).await,
                _ => flip::run(&mut report).await,
            }
        }
    });
    report.print();
    report.keep("engine");
}

/// Adds what a case came to, as a row of docs/benchmarks.md.
fn row(report: &mut Report, case: &str, measured: &str, to_reach: &str) {
    report.note(case, format!("{measured} (to reach: {to_reach})"));
    println!("| {case} | {measured} | {to_reach} |");
}
