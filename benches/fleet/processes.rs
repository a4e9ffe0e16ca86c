//! Memory and requests of Airdock's own processes in the lab.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lab;
use crate::report::{self, Memory, Report};

/// Requests by process and method.
pub type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// Adds the resident memory of a process now, and its peak.
pub fn memory(report: &mut Report, what: &str, subcommand: &str) {
    let processes = lab::processes("airdock", subcommand);
    let sizes: Vec<String> = processes.into_iter().filter_map(Memory::of).map(|memory| memory.to_string()).collect();
    report.note(&format!("Memory: {what}"), sizes.join(", "));
}

/// Tells how many requests a piece of work took, from the processes' own metrics; renewals of the Lease included.
pub fn requests_for(report: &mut Report, who: &str, before: &Counts, pieces: usize, what: &str) {
    let after = counts();
    let sum = |counts: &Counts| counts.get(who).map_or(0, |of| of.values().sum::<u64>());
    let each = (sum(&after) - sum(before)) as f64 / pieces as f64;
    report.note(&format!("Requests of the {who} for a {what}"), format!("{each:.1}"));
}

/// Counts the requests of operator and engine while nothing happens, from their own metrics.
pub async fn requests_at_rest(report: &mut Report, time: Duration) {
    tokio::time::sleep(Duration::from_secs(15)).await;
    let before = counts();
    tokio::time::sleep(time).await;
    let after = counts();
    for (who, counts) in after {
        let earlier = before.get(&who).cloned().unwrap_or_default();
        let text: Vec<String> = ["GET", "POST", "PUT", "PATCH", "DELETE"]
            .iter()
            .map(|method| {
                let count = |map: &BTreeMap<String, u64>| map.get(*method).copied().unwrap_or(0);
                format!("{method} {}", count(&counts) - count(&earlier))
            })
            .collect();
        report.note(&format!("Requests of the {who} in {} s at rest", time.as_secs()), text.join(", "));
    }
}

/// Requests by method so far, of operator and engine, read through the API server's proxy to their pods.
pub fn counts() -> Counts {
    let mut found = BTreeMap::new();
    for (who, selector) in
        [("operator", "app.kubernetes.io/name=airdock"), ("engine", "app.kubernetes.io/component=engine")]
    {
        let (_, pods) = lab::kubectl(&[
            "get",
            "pods",
            "-A",
            "-l",
            selector,
            "-o",
            "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}",
        ]);
        for pod in pods.split_whitespace() {
            let Some((namespace, name)) = pod.split_once('/') else { continue };
            let (_, text) = lab::kubectl(&[
                "get",
                "--raw",
                &format!("/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy/metrics"),
            ]);
            let counts: &mut BTreeMap<String, u64> = found.entry(who.to_owned()).or_default();
            for ((_, method), value) in report::requests(&text) {
                *counts.entry(method).or_default() += value;
            }
        }
    }
    found
}
