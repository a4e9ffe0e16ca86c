//! Many objects at once.

use std::time::{Duration, Instant};

use kube::api::ListParams;
use serde_json::json;

use crate::env::{NAMES, with_env};
use crate::harness::objects;

/// Deployments in each member. CI takes few of them.
fn count() -> usize {
    std::env::var("AIRDOCK_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[test]
fn many_deployments_in_three_members() {
    with_env("scale", async |case| {
        let count = count();
        // A deadline and no figure: the machine may do other work.
        let deadline = Duration::from_secs(60) + u32::try_from(count).unwrap() * Duration::from_millis(300);
        let traffic = case.start_counted();
        for name in NAMES {
            case.until_ready(name, "True", Duration::from_secs(10)).await;
        }
        for n in 0..count {
            case.apply(case.deployment(&format!("web-{n}"), 3)).await;
        }
        case.until_quiet(&traffic).await;
        let before = traffic.writes().len();
        let started = Instant::now();
        case.apply(case.policy("all", json!({}))).await;
        let managed = ListParams::default().labels("karmada.io/managed=true");
        let present = async || {
            let mut all = 0;
            for name in NAMES {
                let api = objects::api(&case.clients[name], "apps/v1", "Deployment", &case.namespace);
                all += api.list_metadata(&managed).await.unwrap().items.len();
            }
            all
        };
        while present().await < 3 * count {
            assert!(started.elapsed() < deadline, "{} of {}", present().await, 3 * count);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("{count} x 3 present after {:?}", started.elapsed());
        let bindings = objects::api(&case.plane, "work.karmada.io/v1alpha2", "ResourceBinding", &case.namespace);
        loop {
            let list = bindings.list(&ListParams::default()).await.unwrap();
            let values: Vec<_> = list.items.into_iter().map(|b| serde_json::to_value(b).unwrap()).collect();
            if values.iter().filter(|b| crate::env::condition(b, "FullyApplied") == "True").count() == count {
                break;
            }
            assert!(started.elapsed() < deadline, "not all are reported");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("{count} x 3 reported after {:?}", started.elapsed());
        case.until_quiet(&traffic).await;
        let writes = traffic.writes().len() - before;
        println!("{writes} writes, {:.2} an object", writes as f64 / count as f64);
        // One binding, three objects, one status, two for who claims a Deployment; the rest is for bursts that came apart.
        assert!(writes <= 9 * count, "{writes} writes for {count} objects");
    });
}
