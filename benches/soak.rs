//! Hours of random work for an engine with three real members: `make soak`.
//!
//! Templates are created, changed and deleted, placement changes, objects are changed and deleted in members, members and
//! the engine are killed and started again. After each round all is healed, and then every member must hold exactly what
//! the plane says. In the second half the engine is left alive, and its memory must not grow. `AIRDOCK_SOAK_MINUTES` is
//! how long it goes on, `AIRDOCK_SOAK_SEED` repeats a run's choices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod engine_process;
#[path = "soak/fleet.rs"]
mod fleet;
#[path = "../tests/harness/mod.rs"]
mod harness;
mod plane;
mod process;
mod report;
#[path = "soak/templates.rs"]
mod templates;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use fleet::Fleet;
use report::Report;

/// Pause between two pieces of work.
const PACE: Duration = Duration::from_millis(40);

/// Rounds of a run; after each of them all must be right.
const ROUNDS: u32 = 10;

/// What an engine may grow in a half of a run that ends with about as many objects as it began with.
const GROWTH_MB: f64 = 15.0;

fn main() {
    let minutes: f64 = variable("AIRDOCK_SOAK_MINUTES").unwrap_or(5.0);
    let seed: u64 = variable("AIRDOCK_SOAK_SEED").unwrap_or_else(rand::random);
    println!("soak: {minutes} minutes, AIRDOCK_SOAK_SEED={seed}");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(Duration::from_secs_f64(60.0 * minutes), StdRng::seed_from_u64(seed)));
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

async fn run(time: Duration, mut random: StdRng) {
    let mut report = Report::default();
    let mut fleet = Fleet::start().await;
    let mut memory = Vec::new();
    for round in 1..=ROUNDS {
        let engine_may_die = round <= ROUNDS / 2;
        let ends = Instant::now() + time / ROUNDS;
        let mut pieces = 0;
        while Instant::now() < ends {
            act(&mut fleet, &mut random, engine_may_die).await;
            pieces += 1;
            tokio::time::sleep(PACE).await;
        }
        let healed = Instant::now();
        fleet.heal().await;
        fleet.until_right().await;
        report.add("soak: healed → every member is right", healed.elapsed());
        let engine = fleet.engine_memory();
        println!(
            "round {round} of {ROUNDS}: {pieces} pieces of work, {} templates, engine {engine}",
            fleet.templates()
        );
        if !engine_may_die {
            memory.push(engine.resident);
        }
    }
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    report.note("soak: memory of an engine that lived", format!("{first:.1} MB → {last:.1} MB"));
    report.note("soak: killed", format!("engine {} times, members {} times", fleet.engine_kills, fleet.member_kills));
    report.print();
    report.keep("soak");
    assert!(last - first <= GROWTH_MB, "the engine grew from {first:.1} to {last:.1} MB, {GROWTH_MB} MB are allowed");
}

/// One piece of work.
async fn act(fleet: &mut Fleet, random: &mut StdRng, engine_may_die: bool) {
    match random.random_range(0..1000) {
        0..700 => fleet.write(random).await,
        700..850 => fleet.delete(random).await,
        850..940 => fleet.change_in_member(random).await,
        940..980 => fleet.delete_in_member(random).await,
        980..985 => fleet.place(random).await,
        985..990 => fleet.kill_member(random),
        990..995 => fleet.restart_members(),
        _ if engine_may_die => fleet.restart_engine().await,
        _ => {}
    }
}
