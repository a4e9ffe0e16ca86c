//! kill -9 at every write: what is begun is carried through by the next engine, with nothing twice and nothing left.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::env::{Case, NAMES, with_env};
use crate::harness::crash::{FaultInjector, Moment};
use crate::harness::objects;

const BINDING: (&str, &str) = ("work.karmada.io/v1alpha2", "ResourceBinding");

/// Runs the engine until it dies of its own accord; false when it got through without.
async fn dies(case: &mut Case<'_>, crash: &Arc<FaultInjector>) -> bool {
    case.start(crash);
    let died = tokio::select! {
        () = crash.happened() => true,
        () = case.until_quiet(crash) => crash.has_happened(),
    };
    case.kill();
    died
}

async fn managed(case: &Case<'_>, member: &str) -> Vec<String> {
    let api = objects::api(&case.clients[member], "v1", "ConfigMap", &case.namespace);
    let list = api.list(&kube::api::ListParams::default().labels("karmada.io/managed=true")).await.unwrap();
    list.items.into_iter().filter_map(|object| object.metadata.name).collect()
}

#[test]
fn killed_at_each_write_while_propagating_and_deleting() {
    with_env("killed", async |case| {
        // Let the clusters be ready, so that only the work in question is written.
        let traffic = case.start_counted();
        for name in NAMES {
            case.until_ready(name, "True", Duration::from_secs(10)).await;
        }
        case.until_quiet(&traffic).await;
        case.kill();
        let mut points = 0;
        for k in 1..=7 {
            let (first, second) =
                if k % 2 == 0 { (Moment::After, Moment::Before) } else { (Moment::Before, Moment::After) };
            let name = format!("object-{k}");
            case.apply(case.policy("all", json!({}))).await;
            case.apply(case.config(&name, "v")).await;
            points += usize::from(dies(case, &Arc::new(FaultInjector::at(k, first))).await);
            case.start_counted();
            let binding = case.until_applied(&format!("{name}-configmap")).await;
            assert_eq!(binding["status"]["aggregatedStatus"].as_array().unwrap().len(), 3);
            case.kill();
            for member in NAMES {
                assert_eq!(
                    managed(case, member).await,
                    std::slice::from_ref(&name),
                    "propagating, killed at write {k}, {member}"
                );
            }
            // Delete, with or without a policy.
            if k % 2 != 0 {
                case.delete("policy.karmada.io/v1alpha1", "PropagationPolicy", "all").await;
            }
            case.delete("v1", "ConfigMap", &name).await;
            points += usize::from(dies(case, &Arc::new(FaultInjector::at(k, second))).await);
            case.start_counted();
            case.until(BINDING.0, BINDING.1, &format!("{name}-configmap"), Value::is_null).await;
            case.kill();
            for member in NAMES {
                assert_eq!(managed(case, member).await, [""; 0], "deleting, killed at write {k}, {member}");
            }
        }
        assert!(points >= 10, "only {points} kill points were reached");
    });
}
