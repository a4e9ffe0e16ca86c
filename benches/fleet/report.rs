//! Figures: gathered, printed as medians, kept raw.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lab;

/// Requests by process and method.
pub type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// All figures of a run, in the order in which they came.
#[derive(Default)]
pub struct Report {
    order: Vec<String>,
    seconds: BTreeMap<String, Vec<f64>>,
    notes: Vec<(String, String)>,
}

impl Report {
    /// Adds a duration.
    pub fn add(&mut self, what: &str, took: Duration) {
        println!("{what}: {:.2} s", took.as_secs_f64());
        if !self.seconds.contains_key(what) {
            self.order.push(what.to_owned());
        }
        self.seconds.entry(what.to_owned()).or_default().push(took.as_secs_f64());
    }

    fn note(&mut self, what: &str, value: String) {
        println!("{what}: {value}");
        self.notes.push((what.to_owned(), value));
    }

    /// Adds the resident memory of a process now, and its peak.
    pub fn memory(&mut self, what: &str, subcommand: &str) {
        let sizes: Vec<String> = lab::processes("airdock", subcommand)
            .into_iter()
            .filter_map(|id| {
                let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
                let field = |name: &str| {
                    let line = status.lines().find(|line| line.starts_with(name))?;
                    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
                };
                Some(format!("{:.1} MB (peak {:.1} MB)", field("VmRSS:")?, field("VmHWM:")?))
            })
            .collect();
        self.note(&format!("Memory: {what}"), sizes.join(", "));
    }

    /// Tells how many requests a piece of work took, from the processes' own metrics; renewals of the Lease included.
    pub fn requests_for(&mut self, who: &str, before: &Counts, pieces: usize, what: &str) {
        let after = counts();
        let sum = |counts: &Counts| counts.get(who).map_or(0, |of| of.values().sum::<u64>());
        let each = (sum(&after) - sum(before)) as f64 / pieces as f64;
        self.note(&format!("Requests of the {who} for a {what}"), format!("{each:.1}"));
    }

    /// Counts the requests of operator and engine while nothing happens, from their own metrics.
    pub async fn requests_at_rest(&mut self, time: Duration) {
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
            self.note(&format!("Requests of the {who} in {} s at rest", time.as_secs()), text.join(", "));
        }
    }

    /// Prints medians.
    pub fn print(&self) {
        println!("\n{:<62} {:>9} {:>9} {:>9} {:>4}", "", "median", "min", "max", "n");
        for what in &self.order {
            let mut values = self.seconds[what].clone();
            values.sort_by(f64::total_cmp);
            println!(
                "{what:<62} {:>7.2} s {:>7.2} s {:>7.2} s {:>4}",
                values[values.len() / 2],
                values[0],
                values[values.len() - 1],
                values.len()
            );
        }
        for (what, value) in &self.notes {
            println!("{what:<62} {value}");
        }
    }

    /// Keeps raw figures in `target/bench/`.
    pub fn keep(&self) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        std::fs::create_dir_all(&folder).unwrap();
        let stamp = k8s_openapi::jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let file = folder.join(format!("fleet-{stamp}.json"));
        let text =
            serde_json::to_string_pretty(&serde_json::json!({"seconds": self.seconds, "notes": self.notes})).unwrap();
        std::fs::write(&file, text).unwrap();
        println!("\nraw figures: {}", file.display());
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
            for line in text.lines().filter(|line| line.starts_with("rest_client_requests_total{")) {
                let method = line.split("method=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
                let value: f64 = line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0);
                *counts.entry(method.to_owned()).or_default() += value as u64;
            }
        }
    }
    found
}
