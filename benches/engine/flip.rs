//! What it costs when one cluster of many is not ready for a while.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine_process::EngineProcess;
use crate::fleet::{Fleet, limit, number};
use crate::harness::{eventually, objects};
use crate::report::Report;
use crate::{row, workload};

const NAMESPACES: usize = 50;
const REST: Duration = Duration::from_secs(20);
const FLIPS: usize = 2;

pub async fn run(report: &mut Report) {
    let templates = number("AIRDOCK_BENCH_TEMPLATES", 10_000);
    let clusters = number("AIRDOCK_BENCH_CLUSTERS", 50);
    let fleet = Fleet::start(clusters).await;
    fleet.plane.propagate(&[("apps/v1", "Deployment")]).await;
    let namespace = |n: usize| format!("team-{:02}", n % NAMESPACES);
    fleet.create((0..NAMESPACES).map(|n| workload::namespace(&namespace(n)))).await;
    fleet.create((0..templates).map(|n| workload::deployment(&namespace(n), &format!("web-{n:05}")))).await;
    let started = Instant::now();
    let engine = fleet.engine().await;
    fleet.until_placed(&engine, &[("apps/v1/deployments", templates)]).await;
    let what = format!("{templates} templates × {clusters} clusters");
    report.add(&format!("{what}: placed and reported by a new engine"), started.elapsed());
    report.note(&format!("{what}: engine memory"), engine.memory().to_string());

    // Probes and renewals of watches cost something without any change.
    let before = engine.cpu();
    tokio::time::sleep(REST).await;
    let at_rest = (engine.cpu() - before).as_secs_f64() / REST.as_secs_f64();
    report.note(&format!("{what}: engine CPU at rest"), format!("{:.1} ms in a second", 1000.0 * at_rest));
    fleet.forget_writes();
    for (answers, ready) in [(false, "False"), (true, "True")].repeat(FLIPS) {
        let spent = flip(&fleet, &engine, answers, ready, at_rest).await;
        report.add(&format!("{what}: engine CPU for one cluster's Ready={ready}"), spent);
    }
    for ready in ["False", "True"] {
        let case = format!("{what}: engine CPU for one cluster's Ready={ready}");
        let median = 1000.0 * report.median(&case);
        row(report, &case, &format!("{median:.0} ms"), "200 ms");
    }
    report.note(&format!("{what}: writes to members in {} flips", 2 * FLIPS), fleet.writes().to_string());
}

/// Makes a cluster ready or not; returns what the engine spent until it was quiet, without what it spends at rest.
async fn flip(fleet: &Fleet, engine: &EngineProcess, answers: bool, ready: &str, at_rest: f64) -> Duration {
    let (started, before) = (Instant::now(), engine.cpu());
    let member = &fleet.members[0];
    member.set_ready(answers);
    eventually(&format!("cluster {} is Ready={ready}", member.name), Duration::from_secs(60), async || {
        let api = objects::api(&fleet.plane.client, "cluster.karmada.io/v1alpha1", "Cluster", "");
        let cluster = serde_json::to_value(api.get(&member.name).await.unwrap()).unwrap();
        let conditions = cluster.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_so = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == ready);
        if is_so { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await;
    engine.until_quiet(limit()).await;
    let rest = Duration::from_secs_f64(at_rest * started.elapsed().as_secs_f64());
    (engine.cpu() - before).saturating_sub(rest)
}
