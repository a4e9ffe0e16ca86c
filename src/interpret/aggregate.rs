//! One status of a template from those in its clusters.

use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::{int, list, text};

/// The status of an object in one of the clusters that it is placed in.
#[derive(Clone, Copy, Debug)]
pub struct StatusItem<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// What [`super::reflect`] gave there; nothing while nothing is known.
    pub status: Option<&'a Value>,
}

/// A merge patch for the template's status, so that it tells what happens in all clusters together; nothing when it
/// does already, or when its kind has no such status.
#[must_use]
pub fn aggregate(object: &Value, generation: i64, status: &Value, items: &[StatusItem<'_>]) -> Option<Value> {
    let known: Vec<(&str, &Value)> = items.iter().filter_map(|item| Some((item.cluster, item.status?))).collect();
    let sum = |fields: &[&str]| -> Vec<(String, Value)> {
        let total = |field: &str| known.iter().map(|(_, status)| int(status, &format!("/{field}"))).sum::<i64>();
        fields.iter().map(|field| ((*field).to_owned(), json!(total(field)))).collect()
    };
    let mut wanted: Vec<(String, Value)> = match Kind::of(object)? {
        kind @ (Kind::Deployment
        | Kind::ReplicaSet
        | Kind::StatefulSet
        | Kind::DaemonSet
        | Kind::HorizontalPodAutoscaler) => sum(kind.counters()),
        Kind::PodDisruptionBudget => {
            let mut all = sum(&["currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed"]);
            all.push(("disruptedPods".to_owned(), disrupted_pods(&known)));
            all
        }
        Kind::Service if text(object, "/spec/type") != "LoadBalancer" => return None,
        Kind::Service | Kind::Ingress => vec![("loadBalancer".to_owned(), json!({"ingress": addresses(&known)}))],
        Kind::Job if is_finished(status).is_some() => return None,
        Kind::Job => job(status, &known, items.len()),
        Kind::CronJob => cron_job(&known),
        Kind::Pod => pod(&known, items.len()),
        Kind::PersistentVolume => {
            vec![phase(&known, items.len(), &["Failed", "Pending", "Available", "Bound", "Released"])?]
        }
        // A claim without a word from anywhere is pending, not bound.
        Kind::PersistentVolumeClaim => vec![phase(&known, items.len(), &["Lost", "Pending", "Bound"])?],
        Kind::ServiceAccount | Kind::Secret | Kind::Namespace => return None,
    };
    if matches!(Kind::of(object)?, Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::DaemonSet) {
        let observed = if known.len() == items.len() && known.iter().all(|(_, status)| is_current(status, generation)) {
            generation
        } else {
            // What was said of an earlier generation stays true.
            int(status, "/observedGeneration")
        };
        wanted.push(("observedGeneration".to_owned(), json!(observed)));
    }
    let patch: Map<String, Value> = wanted
        .into_iter()
        .filter_map(|(field, value)| {
            let old = status.get(&field).cloned().unwrap_or_default();
            if old == value || (is_zero(&old) && is_zero(&value)) {
                return None;
            }
            // Lists and maps that shrink to nothing are taken away; counts are set to zero.
            let empty = !value.is_number() && is_zero(&value);
            Some((field, if empty { Value::Null } else { value }))
        })
        .collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Whether a cluster has the template's latest generation and its controller has seen it.
fn is_current(status: &Value, generation: i64) -> bool {
    int(status, "/observedGeneration") >= int(status, "/generation")
        && int(status, "/resourceTemplateGeneration") >= generation
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_zero),
        Value::Bool(_) | Value::String(_) => false,
    }
}

fn disrupted_pods(known: &[(&str, &Value)]) -> Value {
    let mut all = Map::new();
    for (cluster, status) in known {
        for (pod, time) in status.get("disruptedPods").and_then(Value::as_object).into_iter().flatten() {
            all.insert(format!("{cluster}/{pod}"), time.clone());
        }
    }
    Value::Object(all)
}

fn addresses(known: &[(&str, &Value)]) -> Vec<Value> {
    let mut all: Vec<Value> =
        known.iter().flat_map(|(_, status)| list(status, "/loadBalancer/ingress")).cloned().collect();
    all.sort_by_key(|entry| (text(entry, "/ip").to_owned(), text(entry, "/hostname").to_owned(), entry.to_string()));
    all.dedup();
    all
}

fn condition(status: &Value, type_: &str) -> Option<Value> {
    let found = |c: &&Value| text(c, "/type") == type_ && text(c, "/status") == "True";
    list(status, "/conditions").iter().find(found).cloned()
}

/// Which of its two ends a Job has come to.
fn is_finished(status: &Value) -> Option<&'static str> {
    ["Complete", "Failed"].into_iter().find(|type_| condition(status, type_).is_some())
}

/// The API server checks a Job's status closely: counters never fall, a start never moves, and a Job that is finished
/// has started, has no active pods and announced its end by a condition.
fn job(old: &Value, known: &[(&str, &Value)], clusters: usize) -> Vec<(String, Value)> {
    let total = |field: &str| known.iter().map(|(_, status)| int(status, field)).sum::<i64>();
    let active = total("/active");
    let mut wanted = vec![
        ("active".to_owned(), json!(active)),
        ("succeeded".to_owned(), json!(total("/succeeded").max(int(old, "/succeeded")))),
        ("failed".to_owned(), json!(total("/failed").max(int(old, "/failed")))),
    ];
    let times = |field: &'static str| known.iter().map(move |(_, s)| text(s, field)).filter(|time| !time.is_empty());
    let ends: Vec<_> = known.iter().map(|(cluster, status)| (*cluster, is_finished(status))).collect();
    let failed: Vec<&str> =
        ends.iter().filter(|(_, end)| *end == Some("Failed")).map(|(cluster, _)| *cluster).collect();
    let complete = clusters > 0 && ends.len() == clusters && ends.iter().all(|(_, end)| *end == Some("Complete"));

    // RFC 3339 in UTC sorts as text.
    let start = match text(old, "/startTime") {
        "" if times("/startTime").count() == clusters || !failed.is_empty() => times("/startTime").min(),
        "" => None,
        kept => Some(kept),
    };
    if let Some(start) = start {
        wanted.push(("startTime".to_owned(), json!(start)));
    }
    let mut conditions: Vec<Value> = list(old, "/conditions").to_vec();
    let mut add = |type_: &str, reason: &str, message: String| {
        if conditions.iter().any(|c| text(c, "/type") == type_) {
            return;
        }
        // The moment when the last cluster came to its end.
        let ended = known.iter().flat_map(|(_, status)| list(status, "/conditions"));
        let when = ended.map(|c| text(c, "/lastTransitionTime")).filter(|time| !time.is_empty()).max();
        let when = when.map_or(Value::Null, |time| json!(time));
        conditions.push(json!({"type": type_, "status": "True", "reason": reason, "message": message,
            "lastProbeTime": when.clone(), "lastTransitionTime": when}));
    };
    if !failed.is_empty() {
        let message = format!("the job failed in {}", failed.join(", "));
        add("FailureTarget", "JobFailed", message.clone());
        if active == 0 && start.is_some() {
            add("Failed", "JobFailed", message);
        }
    } else if complete && active == 0 && start.is_some() {
        add("SuccessCriteriaMet", "CompletionsReached", "the job met its success criteria in every cluster".to_owned());
        add("Complete", "Completed", "the job is complete in every cluster".to_owned());
        if let Some(end) = times("/completionTime").max() {
            wanted.push(("completionTime".to_owned(), json!(end)));
        }
    }
    wanted.push(("conditions".to_owned(), Value::Array(conditions)));
    wanted
}

fn cron_job(known: &[(&str, &Value)]) -> Vec<(String, Value)> {
    let active: Vec<Value> = known.iter().flat_map(|(_, status)| list(status, "/active")).cloned().collect();
    let mut wanted = vec![("active".to_owned(), Value::Array(active))];
    for field in ["lastScheduleTime", "lastSuccessfulTime"] {
        let pointer = format!("/{field}");
        if let Some(last) = known.iter().map(|(_, status)| text(status, &pointer)).filter(|t| !t.is_empty()).max() {
            wanted.push((field.to_owned(), json!(last)));
        }
    }
    wanted
}

fn pod(known: &[(&str, &Value)], clusters: usize) -> Vec<(String, Value)> {
    let containers = |field: &str| -> Value {
        let pointer = format!("/{field}");
        let all = known.iter().flat_map(|(_, status)| list(status, &pointer));
        all.map(|container| {
            json!({"name": text(container, "/name"), "image": text(container, "/image"), "imageID": text(container, "/imageID"),
                "ready": container["ready"], "restartCount": int(container, "/restartCount"), "state": container["state"]})
        })
        .collect()
    };
    let mut wanted = vec![
        ("containerStatuses".to_owned(), containers("containerStatuses")),
        ("initContainerStatuses".to_owned(), containers("initContainerStatuses")),
    ];
    wanted.extend(phase(known, clusters, &["Failed", "Pending", "Running", "Succeeded"]));
    wanted
}

/// The first phase, of those listed, that any cluster is in; a cluster that says nothing counts as pending.
fn phase(known: &[(&str, &Value)], clusters: usize, order: &[&str]) -> Option<(String, Value)> {
    let silent = known.len() < clusters;
    let any =
        |phase: &str| (silent && phase == "Pending") || known.iter().any(|(_, status)| text(status, "/phase") == phase);
    order.iter().find(|phase| any(phase)).map(|phase| ("phase".to_owned(), json!(phase)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(api_version: &str, kind: &str, old: Value, items: &[Option<Value>]) -> Option<Value> {
        let object = json!({"apiVersion": api_version, "kind": kind, "spec": {"type": "LoadBalancer"}});
        let names = ["a", "b", "c"];
        let items: Vec<StatusItem<'_>> =
            items.iter().zip(names).map(|(status, cluster)| StatusItem { cluster, status: status.as_ref() }).collect();
        aggregate(&object, 2, &old, &items)
    }

    /// Applies a merge patch and checks that there is nothing left to do.
    fn settles(api_version: &str, kind: &str, old: Value, items: &[Option<Value>]) -> Value {
        let mut status = old.clone();
        if let Some(patch) = run(api_version, kind, old, items) {
            json_patch::merge(&mut status, &patch);
        }
        assert_eq!(run(api_version, kind, status.clone(), items), None, "not settled: {status}");
        status
    }

    #[test]
    fn workloads_add_up_and_tell_the_generation() {
        let item = |template: i64, observed: i64| {
            Some(
                json!({"replicas": 2, "readyReplicas": 1, "observedGeneration": observed, "generation": 7, "resourceTemplateGeneration": template}),
            )
        };
        let old = json!({"observedGeneration": 1, "replicas": 9, "conditions": ["kept"]});
        assert_eq!(
            settles("apps/v1", "Deployment", old.clone(), &[item(2, 7), item(2, 7)]),
            json!({"observedGeneration": 2, "replicas": 4, "readyReplicas": 2, "conditions": ["kept"]})
        );
        for items in [vec![item(1, 7), item(2, 7)], vec![item(2, 6), item(2, 7)], vec![None, item(2, 7)]] {
            assert_eq!(settles("apps/v1", "Deployment", old.clone(), &items)["observedGeneration"], 1, "{items:?}");
        }
        for kind in ["ReplicaSet", "StatefulSet"] {
            assert_eq!(settles("apps/v1", kind, json!({}), &[item(2, 7)])["replicas"], 2);
        }
        let daemons = Some(
            json!({"desiredNumberScheduled": 3, "numberReady": 3, "observedGeneration": 1, "generation": 1, "resourceTemplateGeneration": 2}),
        );
        assert_eq!(settles("apps/v1", "DaemonSet", json!({}), &[daemons.clone(), daemons])["numberReady"], 6);
        assert_eq!(settles("apps/v1", "Deployment", json!({"replicas": 3}), &[])["replicas"], 0);
    }

    #[test]
    fn addresses_are_gathered() {
        let item = |ip: &str| Some(json!({"loadBalancer": {"ingress": [{"ip": ip}]}}));
        for (api_version, kind) in [("v1", "Service"), ("networking.k8s.io/v1", "Ingress")] {
            assert_eq!(
                settles(
                    api_version,
                    kind,
                    json!({"loadBalancer": {}}),
                    &[item("2.2.2.2"), item("1.1.1.1"), item("1.1.1.1")]
                ),
                json!({"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}]}})
            );
            assert_eq!(run(api_version, kind, json!({"loadBalancer": {}}), &[None]), None);
        }
    }

    #[test]
    fn jobs_end_when_all_have_ended() {
        let running = Some(json!({"active": 1, "startTime": "2026-01-01T00:00:05Z"}));
        let done =
            Some(json!({"succeeded": 2, "startTime": "2026-01-01T00:00:01Z", "completionTime": "2026-01-01T00:01:00Z",
            "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z"}]}));
        let failed = Some(json!({"failed": 1, "startTime": "2026-01-01T00:00:01Z",
            "conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "2026-01-01T00:02:00Z"}]}));
        let types = |status: &Value| {
            list(status, "/conditions").iter().map(|c| text(c, "/type").to_owned()).collect::<Vec<_>>()
        };

        let status = settles("batch/v1", "Job", json!({}), &[running.clone(), done.clone()]);
        assert_eq!(
            (int(&status, "/active"), text(&status, "/startTime"), types(&status).len()),
            (1, "2026-01-01T00:00:01Z", 0)
        );
        let status = settles("batch/v1", "Job", status, &[done.clone(), done.clone()]);
        assert_eq!((int(&status, "/succeeded"), text(&status, "/completionTime")), (4, "2026-01-01T00:01:00Z"));
        assert_eq!(types(&status), ["SuccessCriteriaMet", "Complete"]);
        assert_eq!(
            run("batch/v1", "Job", status, std::slice::from_ref(&running)),
            None,
            "a finished job stays finished"
        );

        let status = settles("batch/v1", "Job", json!({}), &[running, failed.clone()]);
        assert_eq!(types(&status), ["FailureTarget"], "not failed while pods are active");
        assert_eq!(types(&settles("batch/v1", "Job", status, &[done, failed])), ["FailureTarget", "Failed"]);
        assert_eq!(types(&settles("batch/v1", "Job", json!({}), &[None])), [""; 0]);
    }

    #[test]
    fn phases() {
        let phase = |phase: &str| Some(json!({"phase": phase}));
        for (kind, items, expected) in [
            ("Pod", vec![phase("Running"), phase("Failed")], "Failed"),
            ("Pod", vec![phase("Running"), None], "Pending"),
            ("Pod", vec![phase("Running"), phase("Succeeded")], "Running"),
            ("PersistentVolume", vec![phase("Bound"), phase("Available")], "Available"),
            ("PersistentVolumeClaim", vec![phase("Bound"), phase("Bound")], "Bound"),
            ("PersistentVolumeClaim", vec![phase("Bound"), phase("Pending")], "Pending"),
            ("PersistentVolumeClaim", vec![phase("Pending"), phase("Lost")], "Lost"),
            ("PersistentVolumeClaim", vec![None], "Pending"),
        ] {
            assert_eq!(settles("v1", kind, json!({}), &items)["phase"], expected, "{kind} {items:?}");
        }
    }

    #[test]
    fn the_others() {
        let budget = |pod: &str| Some(json!({"currentHealthy": 2, "desiredHealthy": 1, "disruptedPods": {pod: "t"}}));
        assert_eq!(
            settles("policy/v1", "PodDisruptionBudget", json!({}), &[budget("x"), budget("y")]),
            json!({"currentHealthy": 4, "desiredHealthy": 2, "disruptedPods": {"a/x": "t", "b/y": "t"}})
        );
        let scaler = Some(json!({"currentReplicas": 2, "desiredReplicas": 3}));
        assert_eq!(
            settles("autoscaling/v2", "HorizontalPodAutoscaler", json!({}), &[scaler.clone(), scaler]),
            json!({"currentReplicas": 4, "desiredReplicas": 6})
        );
        let cron = |time: &str| Some(json!({"active": [{"name": time}], "lastScheduleTime": time}));
        let status =
            settles("batch/v1", "CronJob", json!({}), &[cron("2026-01-01T00:00:00Z"), cron("2026-01-02T00:00:00Z")]);
        assert_eq!(text(&status, "/lastScheduleTime"), "2026-01-02T00:00:00Z");
        assert_eq!(list(&status, "/active").len(), 2);
        assert_eq!(run("v1", "ConfigMap", json!({}), &[None]), None);
        assert_eq!(run("example.io/v1", "Thing", json!({}), &[Some(json!({"x": 1}))]), None);
    }
}
