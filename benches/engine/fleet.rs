//! A plane with simulated members, and an engine for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine_process::EngineProcess;
use crate::harness::objects;
use crate::plane::{Plane, create_all};
use crate::simulated::{Profile, SimulatedMember};

/// A plane and its members.
pub struct Fleet {
    pub plane: Plane,
    pub members: Vec<SimulatedMember>,
}

impl Fleet {
    pub async fn start(members: usize) -> Self {
        let plane = Plane::start().await;
        let profile = Arc::new(Profile::of(&plane.client).await);
        let mut all = Vec::new();
        for index in 1..=members {
            let member = SimulatedMember::start(&format!("member{index:02}"), &profile).await;
            objects::join(&plane.client, &member.name, &member.url, &profile.ca, "bench").await;
            all.push(member);
        }
        Self { plane, members: all }
    }

    /// Starts the engine.
    pub async fn engine(&self) -> EngineProcess {
        EngineProcess::start(&self.plane.server).await
    }

    /// Creates templates in the plane.
    pub async fn create(&self, templates: impl Iterator<Item = Value>) {
        create_all(templates.map(|template| (&self.plane.client, template))).await;
    }

    /// Waits until every member has as many managed objects of each kind, and the engine nothing left to do.
    pub async fn until_placed(&self, engine: &EngineProcess, wanted: &[(&str, usize)]) {
        let within = limit();
        let started = Instant::now();
        let mut told = started;
        loop {
            let count = |kind: &str| self.members.iter().map(|member| member.managed(kind)).sum::<usize>();
            let missing = |(kind, each): &&(&str, usize)| count(kind) < each * self.members.len();
            let Some((kind, each)) = wanted.iter().find(missing) else { break };
            let all = each * self.members.len();
            assert!(started.elapsed() < within, "{} of {all} {kind} after {within:?}:\n{}", count(kind), engine.log());
            if told.elapsed() > Duration::from_secs(15) {
                println!("  {} of {all} {kind} after {:.0} s", count(kind), started.elapsed().as_secs_f64());
                told = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        engine.until_quiet(within).await;
    }

    /// Writes to all members since they were forgotten.
    pub fn writes(&self) -> usize {
        self.members.iter().map(SimulatedMember::writes).sum()
    }

    /// Some of these writes.
    pub fn named_writes(&self) -> Vec<String> {
        let of_member = |member: &SimulatedMember| {
            let name = member.name.clone();
            member.named_writes().into_iter().map(move |write| format!("{name}: {write}")).collect::<Vec<_>>()
        };
        self.members.iter().flat_map(of_member).take(20).collect()
    }

    pub fn forget_writes(&self) {
        self.members.iter().for_each(SimulatedMember::forget_writes);
    }
}

/// How long a set-up may take.
pub fn limit() -> Duration {
    Duration::from_secs(60 * number("AIRDOCK_BENCH_LIMIT_MINUTES", 30) as u64)
}

/// A number from the environment.
pub fn number(variable: &str, default: usize) -> usize {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
