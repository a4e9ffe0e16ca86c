//! What an engine holds in memory for ten thousand templates, and after a restart.

use crate::fleet::Fleet;
use crate::report::Report;
use crate::{row, workload};

const MEMBERS: usize = 2;
const NAMESPACES: usize = 20;
const EACH: usize = 2000;

pub async fn run(report: &mut Report) {
    let fleet = Fleet::start(MEMBERS).await;
    let kinds = [("apps/v1", "Deployment"), ("v1", "Secret"), ("v1", "Service"), ("v1", "ConfigMap")];
    fleet.plane.propagate(&kinds).await;
    let namespace = |n: usize| format!("bench-{:02}", n % NAMESPACES);
    fleet.create((0..NAMESPACES).map(|n| workload::namespace(&namespace(n)))).await;
    let mut engine = fleet.engine().await;
    let templates = (0..EACH).flat_map(|n| {
        let (namespace, name) = (namespace(n), format!("web-{n:04}"));
        [
            workload::deployment(&namespace, &name),
            workload::secret(&namespace, &name),
            workload::service(&namespace, &name),
            workload::config_map(&namespace, &name),
            workload::config_map(&namespace, &format!("more-{n:04}")),
        ]
    });
    fleet.create(templates).await;
    let wanted =
        [("apps/v1/deployments", EACH), ("v1/secrets", EACH), ("v1/services", EACH), ("v1/configmaps", 2 * EACH)];
    fleet.until_placed(&engine, &wanted).await;
    let applied = engine.memory();
    engine.kill();
    fleet.forget_writes();
    let engine = fleet.engine().await;
    engine.until_quiet(crate::fleet::limit()).await;
    let restarted = engine.memory();
    let what =
        "Engine memory, 10,000 templates (2,000 Deployments, Secrets, Services each, 4,000 ConfigMaps) × 2 members";
    row(report, &format!("{what}: all applied"), &applied.to_string(), "80 MB");
    row(report, &format!("{what}: after a restart"), &restarted.to_string(), "80 MB, peak 100 MB");
    row(report, &format!("{what}: writes to members after the restart"), &fleet.writes().to_string(), "0");
}
