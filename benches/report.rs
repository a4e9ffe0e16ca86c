//! Figures: gathered, printed as medians, kept raw.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

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

    /// Adds a figure that is no duration.
    pub fn note(&mut self, what: &str, value: String) {
        println!("{what}: {value}");
        self.notes.push((what.to_owned(), value));
    }

    /// The median of the durations under a name.
    pub fn median(&self, what: &str) -> f64 {
        let mut values = self.seconds[what].clone();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// Prints medians.
    pub fn print(&self) {
        println!("\n{:<62} {:>9} {:>9} {:>9} {:>4}", "", "median", "min", "max", "n");
        for what in &self.order {
            let values = &self.seconds[what];
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            let median = self.median(what);
            println!("{what:<62} {median:>7.2} s {least:>7.2} s {most:>7.2} s {:>4}", values.len());
        }
        for (what, value) in &self.notes {
            println!("{what:<62} {value}");
        }
    }

    /// Keeps raw figures in `target/bench/`. Where `AIRDOCK_BENCH_RECORD` is set, they also go into
    /// `docs/benchmarks.json`, under the bench's name and that one, each in place of its earlier figures there.
    pub fn keep(&self, bench: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("target/bench");
        std::fs::create_dir_all(&folder).unwrap();
        let stamp = k8s_openapi::jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let file = folder.join(format!("{bench}-{stamp}.json"));
        write(&file, &json!({"seconds": self.seconds, "notes": self.notes}));
        println!("\nraw figures: {}", file.display());
        if let Ok(name) = std::env::var("AIRDOCK_BENCH_RECORD") {
            self.record(&root.join("docs/benchmarks.json"), bench, &name);
        }
    }

    fn record(&self, file: &PathBuf, bench: &str, name: &str) {
        let mut all: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let record = &mut all[bench][name];
        for (what, values) in &self.seconds {
            record["seconds"][what] = json!(values);
        }
        for (what, value) in &self.notes {
            record["notes"][what] = json!(value);
        }
        write(file, &all);
        println!("recorded in {} as {bench}, {name}", file.display());
    }
}

fn write(file: &Path, figures: &Value) {
    use serde::Serialize;
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    figures.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).unwrap();
    text.push(b'\n');
    std::fs::write(file, text).unwrap();
}

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now, in MB.
    pub resident: f64,
    /// The most that ever was resident.
    pub peak: f64,
}

impl Memory {
    /// Memory of a process; nothing when it is gone.
    pub fn of(process: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
        };
        Some(Self { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MB (peak {:.1} MB)", self.resident, self.peak)
    }
}

/// Requests of a process so far, by host and method, from the text of its metrics.
pub fn requests(metrics: &str) -> BTreeMap<(String, String), u64> {
    let mut requests = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("rest_client_requests_total{")) {
        let label = |name: &str| {
            let rest = line.split(&format!("{name}=\"")).nth(1).unwrap_or_default();
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        let value: f64 = line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0);
        *requests.entry((label("host"), label("method"))).or_default() += value as u64;
    }
    requests
}
