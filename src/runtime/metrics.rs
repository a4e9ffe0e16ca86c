//! Metrics, under the names of controller-runtime and client-go where those have one, so that existing
//! dashboards and alerts work. Labels are enumerations; no object's name is ever a label.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Method;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::client::RequestHook;

/// Label of what concerns one controller.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ControllerLabel {
    /// Name of the controller.
    pub controller: &'static str,
}

/// Label of what concerns one kind of object.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct KindLabel {
    /// Name of the kind.
    pub kind: String,
}

/// Labels of a finished reconcile.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ResultLabels {
    /// Name of the controller.
    pub controller: &'static str,
    /// `success`, `requeue_after`, `error` or `terminal_error`.
    pub result: &'static str,
}

/// Labels of a failed reconcile.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabels {
    /// Name of the controller.
    pub controller: &'static str,
    /// Reason of the failure, from the fixed vocabulary of conditions.
    pub reason: &'static str,
}

/// Labels of requests to API servers.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// Status code, or `error` when no answer came.
    pub code: String,
    /// HTTP method.
    pub method: String,
    /// Host and port of the API server.
    pub host: String,
}

/// Label of leader elections.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LeaseLabel {
    /// Name of the Lease.
    pub name: String,
}

/// Labels of the build.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// All metrics of a process.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    reconciles: Family<ResultLabels, Counter>,
    errors: Family<ControllerLabel, Counter>,
    terminal_errors: Family<ControllerLabel, Counter>,
    panics: Family<ControllerLabel, Counter>,
    failures: Family<ReasonLabels, Counter>,
    time: Family<ControllerLabel, Histogram, fn() -> Histogram>,
    /// `controller_runtime_max_concurrent_reconciles`.
    pub max_concurrent: Family<ControllerLabel, Gauge>,
    /// `controller_runtime_active_workers`.
    pub active: Family<ControllerLabel, Gauge>,
    requests: Family<RequestLabels, Counter>,
    request_time: Family<RequestMethodHost, Histogram, fn() -> Histogram>,
    /// `airdock_unreadable_objects_total`.
    pub unreadable: Family<KindLabel, Counter>,
    /// `leader_election_master_status`.
    pub leader: Family<LeaseLabel, Gauge>,
}

/// Labels of request durations.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestMethodHost {
    /// HTTP method.
    pub verb: String,
    /// Host and port of the API server.
    pub host: String,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// controller-runtime's buckets, seconds.
fn reconcile_histogram() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

/// client-go's buckets, seconds, the useful ones.
fn request_histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

impl Metrics {
    /// Registers all of them.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let new_reconcile: fn() -> Histogram = reconcile_histogram;
        let new_request: fn() -> Histogram = request_histogram;
        let metrics = Self {
            registry: Arc::default(),
            reconciles: Family::default(),
            errors: Family::default(),
            terminal_errors: Family::default(),
            panics: Family::default(),
            failures: Family::default(),
            time: Family::new_with_constructor(new_reconcile),
            max_concurrent: Family::default(),
            active: Family::default(),
            requests: Family::default(),
            request_time: Family::new_with_constructor(new_request),
            unreadable: Family::default(),
            leader: Family::default(),
        };
        let r = &mut registry;
        r.register("controller_runtime_reconcile", "Reconciles by result", metrics.reconciles.clone());
        r.register("controller_runtime_reconcile_errors", "Failed reconciles", metrics.errors.clone());
        r.register(
            "controller_runtime_terminal_reconcile_errors",
            "Reconciles that failed for good until the spec changes",
            metrics.terminal_errors.clone(),
        );
        r.register("controller_runtime_reconcile_panics", "Reconciles that panicked", metrics.panics.clone());
        r.register("airdock_reconcile_failures", "Failed reconciles by reason", metrics.failures.clone());
        r.register_with_unit(
            "controller_runtime_reconcile_time",
            "Duration of reconciles",
            Unit::Seconds,
            metrics.time.clone(),
        );
        r.register(
            "controller_runtime_max_concurrent_reconciles",
            "Reconciles that may run at once",
            metrics.max_concurrent.clone(),
        );
        r.register("controller_runtime_active_workers", "Reconciles that run now", metrics.active.clone());
        r.register("rest_client_requests", "Requests to API servers", metrics.requests.clone());
        r.register_with_unit(
            "rest_client_request_duration",
            "Time to the answer's header",
            Unit::Seconds,
            metrics.request_time.clone(),
        );
        r.register(
            "airdock_unreadable_objects",
            "Objects of planes, as often as they were seen, that cannot be read",
            metrics.unreadable.clone(),
        );
        r.register("leader_election_master_status", "1 for the leader", metrics.leader.clone());
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        r.register("airdock_build_info", "Version of the running binary", build);
        r.register_with_unit(
            "process_resident_memory",
            "Resident memory",
            Unit::Bytes,
            ResidentMemory::default().gauge,
        );
        Self { registry: Arc::new(Mutex::new(registry)), ..metrics }
    }

    /// Adds metrics of one's own.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock();
        // Writing to a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    /// Records a finished reconcile.
    pub fn reconciled(&self, controller: &'static str, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&ResultLabels { controller, result }).inc();
        self.time.get_or_create(&ControllerLabel { controller }).observe(took.as_secs_f64());
    }

    /// Records why a reconcile failed.
    pub fn failed(&self, controller: &'static str, reason: &'static str, terminal: bool) {
        self.errors.get_or_create(&ControllerLabel { controller }).inc();
        if terminal {
            self.terminal_errors.get_or_create(&ControllerLabel { controller }).inc();
        }
        self.failures.get_or_create(&ReasonLabels { controller, reason }).inc();
    }

    /// Records a panic in a reconcile.
    pub fn panicked(&self, controller: &'static str) {
        self.panics.get_or_create(&ControllerLabel { controller }).inc();
    }
}

/// Reads the process' memory when it is asked for.
#[derive(Debug, Default)]
struct ResidentMemory {
    gauge: Gauge<i64, ResidentMemoryCell>,
}

#[derive(Debug, Default)]
struct ResidentMemoryCell(AtomicU64);

impl prometheus_client::metrics::gauge::Atomic<i64> for ResidentMemoryCell {
    fn inc(&self) -> i64 {
        self.get()
    }
    fn inc_by(&self, _: i64) -> i64 {
        self.get()
    }
    fn dec(&self) -> i64 {
        self.get()
    }
    fn dec_by(&self, _: i64) -> i64 {
        self.get()
    }
    fn set(&self, _: i64) -> i64 {
        self.get()
    }
    fn get(&self) -> i64 {
        resident_bytes().unwrap_or_else(|| self.0.load(std::sync::atomic::Ordering::Relaxed).cast_signed())
    }
}

/// Resident memory of this process in bytes, from the kernel's second field of `statm` (pages of 4 KiB).
#[must_use]
pub fn resident_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_whitespace().nth(1)?.parse::<i64>().ok().map(|pages| pages * 4096)
}

impl RequestHook for Metrics {
    fn before(&self, _: &Method, _: &str, _: &str) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn after(&self, method: &Method, host: &str, _: &str, code: u16, took: Duration) -> BoxFuture<'static, ()> {
        let (verb, host) = (method.to_string(), host.to_owned());
        let code = if code == 0 { "error".to_owned() } else { code.to_string() };
        self.request_time
            .get_or_create(&RequestMethodHost { verb: verb.clone(), host: host.clone() })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { code, method: verb, host }).inc();
        Box::pin(std::future::ready(()))
    }
}
