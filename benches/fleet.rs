//! What users wait for, measured on the lab: `make bench`.
//!
//! Instances, joins and propagation run on real clusters with a few repetitions each; medians are printed and raw
//! figures are kept in `target/bench/`. Things are counted by watches, not by repeated calls, which would take the
//! cores from what is measured. Where `KARMADA_BIN` is set, upstream's components do the same work in the same run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[path = "../tests/e2e/fleet.rs"]
#[allow(dead_code)]
mod fleet;
#[path = "../tests/e2e/lab.rs"]
#[allow(dead_code)]
mod lab;
#[path = "fleet/load.rs"]
mod load;
#[path = "fleet/report.rs"]
mod report;

use std::time::{Duration, Instant};

use airdock::api::{KarmadaInstance, MemberClusterJoin};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams};

use report::Report;

const NAMESPACE: &str = "bench";
const RUNS: usize = 5;
/// Fewer: upstream takes minutes for the load.
const FULL_RUNS: usize = 3;
/// How many members join at once.
const JOINS: [usize; 3] = [1, 3, 10];
/// The lab's kwok members that take part; `make bench` adds them.
const MEMBERS: [&str; 10] = ["eu", "us", "m03", "m04", "m05", "m06", "m07", "m08", "m09", "m10"];
/// Where the lab serves Karmada's CRD bundle.
const BUNDLE: &str = "http://198.18.255.2:8099/crds.tar.gz";

fn main() {
    // Cargo passes flags such as --bench; one word chooses a single measurement.
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| only.as_deref().is_none_or(|word| word == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let host = lab::host().await;
        lab::namespace(&host, NAMESPACE).await;
        let mut report = Report::default();
        if wanted("install") {
            install(&host, &mut report).await;
        }
        if wanted("join") || wanted("load") || wanted("rest") {
            compact(&host, &mut report, &wanted).await;
        }
        match full_manifest() {
            Some(manifest) if wanted("full") => full(&host, &mut report, &manifest).await,
            Some(_) => {}
            None => println!("SKIPPED: profile Full, since KARMADA_BIN does not name upstream's binaries"),
        }
        report.print();
        report.keep();
    });
}

/// Instance applied until Ready.
async fn install(host: &Client, report: &mut Report) {
    let instances: Api<KarmadaInstance> = Api::namespaced(host.clone(), NAMESPACE);
    for _ in 0..RUNS {
        report.add(
            "Compact: instance applied → Ready",
            ready_after(host, &fleet::manifest(NAMESPACE, "timed", "")).await,
        );
        lab::delete(&instances, "timed", 120).await;
    }
    if let Some(manifest) = full_manifest() {
        for _ in 0..FULL_RUNS {
            report.add("Full: instance applied → Ready", ready_after(host, &manifest).await);
            lab::delete(&instances, "full", 120).await;
        }
    }
}

async fn ready_after(host: &Client, manifest: &str) -> Duration {
    let started = Instant::now();
    lab::apply(manifest);
    let name = manifest.split("name: ").nth(1).unwrap().split(',').next().unwrap();
    load::until_condition::<KarmadaInstance>(host, NAMESPACE, &[name], "Ready").await;
    started.elapsed()
}

/// Joins of 1, 3 and 10 members, then load and rest, on one Compact instance.
async fn compact(host: &Client, report: &mut Report, wanted: &impl Fn(&str) -> bool) {
    fleet::instance(host, NAMESPACE, "compact", "").await;
    if wanted("join") {
        let before = report::counts();
        for count in JOINS {
            for _ in 0..RUNS {
                let took = join(host, "compact", &MEMBERS[..count]).await;
                report.add(&format!("Compact: {count} members joined in parallel"), took);
                leave(host, &MEMBERS[..count]).await;
            }
        }
        let joined = JOINS.iter().sum::<usize>() * RUNS;
        report.requests_for("operator", &before, joined, "member joined and unjoined");
    }
    join(host, "compact", &MEMBERS[..3]).await;
    let plane = lab::plane(NAMESPACE, "compact").await;
    report.memory("operator at rest", "controller");
    report.memory("engine at rest, 3 members", "engine");
    if wanted("load") {
        let before = report::counts();
        for _ in 0..RUNS {
            load(report, "Compact", &plane).await;
        }
        report.requests_for(
            "engine",
            &before,
            RUNS * load::COUNT,
            "template brought to 3 members, reported and removed",
        );
        report.memory("engine after 200 × 3", "engine");
        report.memory("operator after 200 × 3", "controller");
        load::floor(report, &MEMBERS[..3]).await;
    }
    if wanted("rest") {
        report.requests_at_rest(Duration::from_secs(60)).await;
    }
    leave(host, &MEMBERS[..3]).await;
    lab::delete(&Api::<KarmadaInstance>::namespaced(host.clone(), NAMESPACE), "compact", 120).await;
}

/// 200 Deployments for three members.
async fn load(report: &mut Report, profile: &str, plane: &Client) {
    let took = load::deployments(plane, &MEMBERS[..3]).await;
    report.add(&format!("{profile}: 200 Deployments × 3 members, all present"), took.present);
    report.add(&format!("{profile}: … all ready in the members"), took.ready);
    report.add(&format!("{profile}: … all told to be ready by the templates"), took.aggregated);
}

/// The same joins and load on upstream's components.
async fn full(host: &Client, report: &mut Report, manifest: &str) {
    lab::apply(manifest);
    load::until_condition::<KarmadaInstance>(host, NAMESPACE, &["full"], "Ready").await;
    for count in JOINS {
        for _ in 0..FULL_RUNS {
            let took = join(host, "full", &MEMBERS[..count]).await;
            report.add(&format!("Full: {count} members joined in parallel"), took);
            leave(host, &MEMBERS[..count]).await;
        }
    }
    join(host, "full", &MEMBERS[..3]).await;
    let plane = lab::plane(NAMESPACE, "full").await;
    for _ in 0..FULL_RUNS {
        load(report, "Full", &plane).await;
    }
    leave(host, &MEMBERS[..3]).await;
    lab::delete(&Api::<KarmadaInstance>::namespaced(host.clone(), NAMESPACE), "full", 180).await;
}

fn full_manifest() -> Option<String> {
    use sha2::{Digest, Sha256};
    let folder = std::env::var_os("KARMADA_BIN")?;
    let bundle = std::fs::read(std::path::Path::new(&folder).join("crds.tar.gz")).unwrap();
    let sha256: String = Sha256::digest(&bundle).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: KarmadaInstance\nmetadata: {{name: full, namespace: {NAMESPACE}}}\n\
         spec:\n  profile: Full\n  etcd: {{managed: {{storage: {{type: Ephemeral}}}}}}\n  \
         crds: {{source: {{url: '{BUNDLE}', sha256: '{sha256}'}}}}\n"
    ))
}

/// Memberships applied together until all are Ready.
async fn join(host: &Client, instance: &str, members: &[&str]) -> Duration {
    for member in members {
        let kubeconfig = std::fs::read_to_string(lab::member_kubeconfig(member)).unwrap();
        lab::kubeconfig_secret(host, NAMESPACE, &format!("member-{member}"), &kubeconfig).await;
    }
    let manifest: String = members
        .iter()
        .map(|member| {
            format!(
                "apiVersion: airdock.dev/v1alpha1\nkind: MemberClusterJoin\nmetadata: {{name: {member}, namespace: {NAMESPACE}}}\n\
                 spec: {{instanceRef: {{name: {instance}}}, clusterName: {member}, kubeconfigSecretRef: {{name: member-{member}}}}}\n---\n"
            )
        })
        .collect();
    let started = Instant::now();
    lab::apply(&manifest);
    load::until_condition::<MemberClusterJoin>(host, NAMESPACE, members, "Ready").await;
    started.elapsed()
}

async fn leave(host: &Client, members: &[&str]) {
    let api: Api<MemberClusterJoin> = Api::namespaced(host.clone(), NAMESPACE);
    for member in members {
        api.delete(member, &DeleteParams::default()).await.unwrap();
    }
    for member in members {
        lab::gone(&api, member, 180).await;
    }
    // What an earlier membership leaves to a member to clear away is not part of the next one's time.
    for member in members {
        let namespaces: Api<Namespace> = Api::all(lab::member(member).await);
        lab::gone(&namespaces, "karmada-cluster", 180).await;
    }
}
