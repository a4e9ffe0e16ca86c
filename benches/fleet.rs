//! What users wait for, measured on the lab: `make bench-lab`.
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
#[path = "fleet/processes.rs"]
mod processes;
#[path = "report.rs"]
mod report;

use std::process::Command;
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
/// The lab's kwok members that take part; `make bench-lab` adds the third of them, [`add_members`] the rest.
const MEMBERS: [&str; 10] = ["eu", "us", "m03", "m04", "m05", "m06", "m07", "m08", "m09", "m10"];

fn main() {
    // Cargo passes flags such as --bench; words choose measurements (install, load, join) and profiles.
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let among = |name: &str, all: &[&str]| {
        let mut chosen = words.iter().filter(|word| all.contains(&word.as_str())).peekable();
        chosen.peek().is_none() || chosen.any(|word| word == name)
    };
    let wanted = |name: &str| among(name, &["install", "load", "join"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let host = lab::host().await;
        lab::namespace(&host, NAMESPACE).await;
        let mut report = Report::default();
        let mut profiles = profiles();
        if profiles.len() == 1 {
            println!("SKIPPED: profile Full, since KARMADA_BIN does not name upstream's binaries");
        }
        profiles.retain(|profile| among(profile.name, &["compact", "full"]));
        for profile in &profiles {
            if wanted("install") {
                install(&host, &mut report, profile).await;
            }
        }
        for profile in &profiles {
            if wanted("load") {
                load(&host, &mut report, profile).await;
            }
        }
        // Only now: ten members at rest take a quarter of a core from whatever else is measured.
        for profile in &profiles {
            if wanted("join") {
                add_members();
                joins(&host, &mut report, profile).await;
            }
        }
        report.print();
        report.keep("fleet");
    });
}

/// An instance of a profile, and how often things are measured on it.
struct Profile {
    label: &'static str,
    name: &'static str,
    manifest: String,
    runs: usize,
}

/// Compact, and Full where upstream's binaries are there.
fn profiles() -> Vec<Profile> {
    let compact =
        Profile { label: "Compact", name: "compact", manifest: fleet::manifest(NAMESPACE, "compact", ""), runs: RUNS };
    let full = fleet::bundle_sha256().map(|sha256| fleet::full_manifest(NAMESPACE, &fleet::served_bundle(&sha256)));
    let full = full.map(|manifest| Profile { label: "Full", name: "full", manifest, runs: FULL_RUNS });
    std::iter::once(compact).chain(full).collect()
}

impl Profile {
    fn is_compact(&self) -> bool {
        self.label == "Compact"
    }

    /// Applies the instance; tells how long it took to be Ready.
    async fn install(&self, host: &Client) -> Duration {
        let started = Instant::now();
        lab::apply(&self.manifest);
        load::until_condition::<KarmadaInstance>(host, NAMESPACE, &[self.name], "Ready").await;
        started.elapsed()
    }

    async fn delete(&self, host: &Client) -> Duration {
        let started = Instant::now();
        lab::delete(&Api::<KarmadaInstance>::namespaced(host.clone(), NAMESPACE), self.name, 180).await;
        started.elapsed()
    }
}

/// Instance applied until Ready, and deleted until gone.
async fn install(host: &Client, report: &mut Report, profile: &Profile) {
    for _ in 0..profile.runs {
        report.add(&format!("{}: instance applied → Ready", profile.label), profile.install(host).await);
        report.add(&format!("{}: instance deleted → gone", profile.label), profile.delete(host).await);
    }
}

/// 200 Deployments for three members; then, on Compact, what it costs to have them and to rest.
async fn load(host: &Client, report: &mut Report, profile: &Profile) {
    profile.install(host).await;
    join(host, profile.name, &MEMBERS[..3]).await;
    let client = lab::plane(NAMESPACE, profile.name).await;
    if profile.is_compact() {
        processes::requests_at_rest(report, Duration::from_secs(60)).await;
        processes::memory(report, "operator at rest", "controller");
        processes::memory(report, "engine at rest, 3 members", "engine");
    }
    let before = processes::counts();
    for _ in 0..profile.runs {
        let took = load::deployments(&client, &MEMBERS[..3]).await;
        let label = profile.label;
        report.add(&format!("{label}: 200 Deployments × 3 members, all present"), took.present);
        report.add(&format!("{label}: … all ready in the members"), took.ready);
        report.add(&format!("{label}: … all told to be ready by the templates"), took.aggregated);
    }
    if profile.is_compact() {
        let what = "template brought to 3 members, reported and removed";
        processes::requests_for(report, "engine", &before, RUNS * load::COUNT, what);
        processes::memory(report, "engine after 200 × 3", "engine");
        processes::memory(report, "operator after 200 × 3", "controller");
        load::floor(report, &MEMBERS[..3]).await;
    }
    leave(host, &MEMBERS[..3]).await;
    profile.delete(host).await;
}

/// 1, 3 and 10 members joined at once.
async fn joins(host: &Client, report: &mut Report, profile: &Profile) {
    profile.install(host).await;
    let before = processes::counts();
    for count in JOINS {
        for _ in 0..profile.runs {
            let took = join(host, profile.name, &MEMBERS[..count]).await;
            report.add(&format!("{}: {count} members joined in parallel", profile.label), took);
            leave(host, &MEMBERS[..count]).await;
        }
    }
    if profile.is_compact() {
        let joined = JOINS.iter().sum::<usize>() * RUNS;
        processes::requests_for(report, "operator", &before, joined, "member joined and unjoined");
    }
    profile.delete(host).await;
}

/// Adds the members that only joins need.
fn add_members() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let status = Command::new(format!("{folder}/target/release/airdock-lab"))
        .arg("--dir")
        .arg(lab::folder())
        .args(["member", "add"])
        .args(&MEMBERS[3..])
        .args(["--region", "bench", "--provider", "bench"])
        .status()
        .unwrap();
    assert!(status.success(), "the lab did not add members");
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
