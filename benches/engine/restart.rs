//! How soon a new object arrives when the engine has to learn everything anew.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, limit};
use crate::report::Report;
use crate::{row, workload};

const MEMBERS: usize = 7;
const NAMESPACES: usize = 1100;
const POLICIES: usize = 6300;
const KIND: &str = "networking.k8s.io/v1/networkpolicies";
const RUNS: usize = 3;

pub async fn run(report: &mut Report) {
    let fleet = Fleet::start(MEMBERS).await;
    fleet.plane.propagate(&[("networking.k8s.io/v1", "NetworkPolicy")]).await;
    let namespace = |n: usize| format!("team-{:04}", n % NAMESPACES);
    fleet.create((0..NAMESPACES).map(|n| workload::namespace(&namespace(n)))).await;
    let mut engine = fleet.engine().await;
    fleet.create((0..POLICIES).map(|n| workload::network_policy(&namespace(n), &format!("allow-{n:04}")))).await;
    fleet.until_placed(&engine, &[("v1/namespaces", NAMESPACES), (KIND, POLICIES)]).await;

    let what = "Restart with 1,100 namespaces + 6,300 NetworkPolicies × 7 members";
    let arrives = format!("{what}: engine started → a new object is in all members");
    let (mut needless, mut in_plane) = (0, 0);
    for run in 0..RUNS {
        engine.kill();
        fleet.forget_writes();
        let started = Instant::now();
        engine = fleet.engine().await;
        let name = format!("new-{run}");
        fleet.create(std::iter::once(workload::network_policy(&namespace(run), &name))).await;
        while !fleet.members.iter().all(|member| member.has(KIND, &namespace(run), &name)) {
            assert!(started.elapsed() < limit(), "the new object did not arrive:\n{}", engine.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        report.add(&arrives, started.elapsed());
        engine.until_quiet(limit()).await;
        needless += fleet.writes() - MEMBERS;
        in_plane += engine.writes(Some(&fleet.plane.host()));
        if fleet.writes() > MEMBERS {
            println!("writes to members: {:#?}", fleet.named_writes());
        }
    }
    row(report, &arrives, &format!("{:.2} s", report.median(&arrives)), "6 s");
    row(report, &format!("{what}: needless writes to members in {RUNS} restarts"), &needless.to_string(), "0");
    report.note(
        &format!("{what}: writes to the plane in {RUNS} restarts, with those for the new objects"),
        in_plane.to_string(),
    );
    report.note(&format!("{what}: engine memory"), engine.memory().to_string());
}
