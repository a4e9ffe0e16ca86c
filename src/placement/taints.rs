//! Taints and what tolerates them.

use super::cluster::{ClusterView, Health};
use crate::karmada::cluster::Taint;
use crate::karmada::policy::Toleration;

/// Key of the taint of a cluster that does not answer or is not ready.
pub const NOT_READY_TAINT: &str = "cluster.karmada.io/not-ready";

/// Key of the taint of a cluster that nobody has looked at for a while.
pub const UNREACHABLE_TAINT: &str = "cluster.karmada.io/unreachable";

/// The first taint that keeps new work away, as people write it (`key=value:effect`).
///
/// The taint of a cluster that is not ready follows from its `Ready` condition. It is not written into the cluster's
/// spec, which belongs to whoever joined it.
pub(super) fn untolerated(cluster: &ClusterView, tolerations: &[Toleration]) -> Option<String> {
    let of_health = match cluster.health {
        Health::Ready => None,
        Health::NotReady => Some(NOT_READY_TAINT),
        Health::Unknown => Some(UNREACHABLE_TAINT),
    };
    let of_health = of_health.map(|key| Taint { key: key.to_owned(), value: None, effect: "NoSchedule".to_owned() });
    of_health
        .iter()
        .chain(&cluster.taints)
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
        .map(|taint| match taint.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
            None => format!("{}:{}", taint.key, taint.effect),
        })
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if given(&toleration.key).is_some_and(|key| key != taint.key) {
        return false;
    }
    match given(&toleration.operator).as_deref() {
        None | Some("Equal") => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some("Exists") => true,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn first(health: Health, taints: Value, tolerations: Value) -> Option<String> {
        let cluster = ClusterView { health, taints: from_value(taints).unwrap(), ..ClusterView::default() };
        untolerated(&cluster, &from_value::<Vec<Toleration>>(tolerations).unwrap())
    }

    #[test]
    fn table() {
        let gpu = json!([{"key": "gpu", "value": "a100", "effect": "NoSchedule"}]);
        for (taints, tolerations, expected) in [
            (json!([]), json!([]), None),
            (gpu.clone(), json!([]), Some("gpu=a100:NoSchedule")),
            (gpu.clone(), json!([{"key": "gpu", "value": "a100"}]), None),
            (gpu.clone(), json!([{"key": "gpu", "operator": "Equal", "value": "a100", "effect": "NoSchedule"}]), None),
            (gpu.clone(), json!([{"key": "gpu", "value": "b"}]), Some("gpu=a100:NoSchedule")),
            (gpu.clone(), json!([{"key": "gpu", "operator": "Exists"}]), None),
            (gpu.clone(), json!([{"operator": "Exists"}]), None),
            (gpu.clone(), json!([{"operator": "Gt", "key": "gpu", "value": "a100"}]), Some("gpu=a100:NoSchedule")),
            (gpu, json!([{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]), Some("gpu=a100:NoSchedule")),
            (json!([{"key": "k", "effect": "NoExecute"}]), json!([]), Some("k:NoExecute")),
            (json!([{"key": "k", "effect": "PreferNoSchedule"}]), json!([]), None),
        ] {
            assert_eq!(
                first(Health::Ready, taints.clone(), tolerations.clone()).as_deref(),
                expected,
                "{taints} {tolerations}"
            );
        }
    }

    #[test]
    fn health_is_a_taint_that_can_be_tolerated() {
        assert_eq!(first(Health::NotReady, json!([]), json!([])).unwrap(), "cluster.karmada.io/not-ready:NoSchedule");
        assert_eq!(first(Health::Unknown, json!([]), json!([])).unwrap(), "cluster.karmada.io/unreachable:NoSchedule");
        assert_eq!(first(Health::NotReady, json!([]), json!([{"key": NOT_READY_TAINT, "operator": "Exists"}])), None);
    }
}
