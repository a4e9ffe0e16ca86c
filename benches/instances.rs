//! What idle instances cost the operator: `make bench-instances`.
//!
//! The host is a real etcd and kube-apiserver, the operator a process of its own. Instances are of profile Compact, with keys
//! and kubeconfigs of their own; the bench plays their kubelets. One kube-apiserver is the plane of all of them: each has its
//! own connections to it, under its own authority, by the address of its own Service. `AIRDOCK_BENCH_INSTANCES` is how many
//! there are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[path = "../tests/harness/mod.rs"]
mod harness;
mod process;
mod report;

use std::time::Duration;

use serde_json::json;

use harness::{ApiServer, Etcd, installation, objects};
use process::AirdockProcess;
use report::Report;

/// How long what has come up is left alone before it is measured: longer than a round takes to come again.
const REST: Duration = Duration::from_secs(45);

/// How long requests are counted.
const COUNTED: Duration = Duration::from_secs(60);

/// What the operator may take with all instances.
const TO_REACH: &str = "100 MB for 50";

fn main() {
    let count: usize = match std::env::var("AIRDOCK_BENCH_INSTANCES") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("AIRDOCK_BENCH_INSTANCES={text} is not a number")),
        Err(_) => 50,
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut report = Report::default();
    runtime.block_on(run(&mut report, count));
    report.print();
    report.keep("instances");
}

async fn run(report: &mut Report, count: usize) {
    let etcd = Etcd::start();
    let mut host = installation::host(&etcd);
    host.ready().await;
    let client = host.client();
    objects::define(&client, &airdock::cli::crds::definitions()).await;
    // An API server watches itself, too.
    let own = {
        let mut empty = ApiServer::start(&etcd, "empty");
        empty.ready().await;
        watches(&empty).await
    };
    let mut operator = start_operator(&host).await;
    measure(report, &operator, None, 0, "").await;

    // One name in many namespaces: what their installations put into the plane is the same, so that they do not keep
    // changing it for each other.
    let all: Vec<(String, String)> = (0..count).map(|n| (format!("idle-{n}"), "east".to_owned())).collect();
    let mut running: Option<ApiServer> = None;
    for some in [&all[..1], &all[..]] {
        for (namespace, name) in some {
            objects::namespace(&client, namespace).await;
            let metadata = json!({"namespace": namespace, "name": name});
            let (api_version, kind) = ("airdock.dev/v1alpha1", "KarmadaInstance");
            let spec = json!({"profile": "Compact"});
            let instance = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec});
            objects::apply(&client, instance).await;
        }
        drop(running.take());
        let mut plane = installation::plane(&client, &etcd, some).await;
        plane.ready().await;
        installation::until_ready(&client, some).await;
        measure(report, &operator, Some((&plane, own)), some.len(), "").await;
        running = Some(plane);
    }
    operator.kill();
    let operator = start_operator(&host).await;
    measure(report, &operator, running.as_ref().map(|plane| (plane, own)), count, ", after a restart").await;
}

async fn start_operator(host: &ApiServer) -> AirdockProcess {
    let kubeconfig = host.kubeconfig_file().display().to_string();
    let arguments = ["--service-access=cluster-ip".to_owned(), "--image=airdock:bench".to_owned()];
    // The chart's Deployment asks for small pages as well.
    let environment = [("KUBECONFIG", kubeconfig), ("MIMALLOC_ALLOW_THP", "0".to_owned())];
    AirdockProcess::start("controller", &arguments, &environment).await
}

async fn measure(
    report: &mut Report,
    operator: &AirdockProcess,
    plane: Option<(&ApiServer, i64)>,
    instances: usize,
    when: &str,
) {
    tokio::time::sleep(REST).await;
    let what = match instances {
        1 => format!("1 instance{when}"),
        count => format!("{count} instances{when}"),
    };
    let before: u64 = operator.requests().values().sum();
    let cpu = operator.cpu();
    tokio::time::sleep(COUNTED).await;
    let requests = operator.requests().values().sum::<u64>() - before;
    let cpu = operator.cpu() - cpu;
    let memory = operator.memory();
    report.note(&format!("Memory of the operator with {what} (to reach: {TO_REACH})"), memory.to_string());
    report.note(&format!("Processor time of the operator in 60 s with {what}"), format!("{:.2} s", cpu.as_secs_f64()));
    let Some((plane, own)) = plane else {
        return report.note(&format!("Requests of the operator in 60 s with {what}"), requests.to_string());
    };
    let each = requests as f64 / instances as f64;
    report.note(&format!("Requests of the operator in 60 s for each of {what}"), format!("{each:.1}"));
    let each = (watches(plane).await - own) as f64 / instances as f64;
    report.note(&format!("Watches of the plane of each of {what}"), format!("{each:.1}"));
}

async fn watches(server: &ApiServer) -> i64 {
    objects::watches(&server.client()).await.values().sum()
}
