//! A thousand custom objects at once, against the bare writes that they amount to in the members.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};

use crate::engine_process::EngineProcess;
use crate::fleet::limit;
use crate::harness::{ApiServer, eventually, objects};
use crate::plane::{Plane, create_all};
use crate::report::Report;
use crate::{row, workload};

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
const OBJECTS: usize = 1000;
const RUNS: usize = 3;
const NAMESPACE: &str = "bench";
const FLOOR_NAMESPACE: &str = "bench-floor";

pub async fn run(report: &mut Report) {
    let plane = Plane::start().await;
    let mut servers: Vec<ApiServer> = NAMES.iter().map(|name| ApiServer::start(&plane.etcd, name)).collect();
    let mut members = Vec::new();
    let definition = [serde_json::from_value(workload::widgets()).unwrap()];
    objects::define(&plane.client, &definition).await;
    objects::namespace(&plane.client, NAMESPACE).await;
    for server in &mut servers {
        server.ready().await;
        let client = server.client();
        objects::define(&client, &definition).await;
        objects::namespace(&client, FLOOR_NAMESPACE).await;
        objects::join(&plane.client, &server.name, &server.url(), &server.ca, "bench").await;
        members.push(client);
    }
    plane.propagate(&[("bench.airdock.dev/v1", "Widget")]).await;
    let engine = EngineProcess::start(&plane.server).await;
    engine.until_quiet(limit()).await;
    let what = "1,000 custom objects created in the plane → all in 3 members";
    let floor = "3,000 bare creates in the 3 members, 12 connections";
    for _ in 0..RUNS {
        report.add(floor, bare(&members).await);
        engine.until_quiet(limit()).await;
        report.add(what, propagated(&plane, &members).await);
        engine.until_quiet(limit()).await;
        clear(&plane.client, &members, NAMESPACE).await;
        engine.until_quiet(limit()).await;
    }
    let ratio = report.median(what) / report.median(floor);
    let measured = format!("{:.2} s against {:.2} s: {ratio:.2} ×", report.median(what), report.median(floor));
    row(report, what, &measured, "1.15 × the bare writes");
    report.note("1,000 custom objects × 3 members: engine memory", engine.memory().to_string());
}

fn widgets(client: &Client, namespace: &str) -> Api<DynamicObject> {
    objects::api(client, "bench.airdock.dev/v1", "Widget", namespace)
}

fn name(n: usize) -> String {
    format!("widget-{n:04}")
}

async fn bare(members: &[Client]) -> Duration {
    let started = Instant::now();
    let all = (0..OBJECTS).flat_map(|n| members.iter().map(move |member| (member, n)));
    create_all(all.map(|(member, n)| (member, workload::widget(FLOOR_NAMESPACE, &name(n))))).await;
    let took = started.elapsed();
    for member in members {
        empty(member, FLOOR_NAMESPACE).await;
    }
    took
}

async fn propagated(plane: &Plane, members: &[Client]) -> Duration {
    let started = Instant::now();
    let create = create_all((0..OBJECTS).map(|n| (&plane.client, workload::widget(NAMESPACE, &name(n)))));
    let present = stream::iter(members)
        .map(|member| until_present(member, started))
        .buffer_unordered(members.len())
        .fold(Duration::ZERO, async |latest, one| latest.max(one));
    let all = futures::future::join(create, present);
    let ((), present) = tokio::time::timeout(limit(), all).await.expect("all are there in time");
    present
}

/// Tells, by one watch, when all are there.
async fn until_present(member: &Client, started: Instant) -> Duration {
    let events = watcher(widgets(member, NAMESPACE), watcher::Config::default());
    let mut applied = std::pin::pin!(events.default_backoff().applied_objects());
    let mut seen = HashSet::new();
    while seen.len() < OBJECTS {
        if let Ok(Some(object)) = applied.try_next().await {
            seen.insert(object.name_any());
        }
    }
    started.elapsed()
}

/// Removes them from the plane, and waits until the members are rid of them.
async fn clear(plane: &Client, members: &[Client], namespace: &str) {
    empty(plane, namespace).await;
    for member in members {
        eventually("the members are empty again", limit(), async || {
            let left = widgets(member, namespace).list_metadata(&ListParams::default().limit(1)).await.unwrap();
            if left.items.is_empty() { Ok(()) } else { Err("objects are left".to_owned()) }
        })
        .await;
    }
}

async fn empty(cluster: &Client, namespace: &str) {
    // A thousand deletions may take longer than one request may.
    eventually("objects are deleted", limit(), async || {
        let all = ListParams::default();
        let deleted = widgets(cluster, namespace).delete_collection(&DeleteParams::default(), &all).await;
        deleted.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
}
