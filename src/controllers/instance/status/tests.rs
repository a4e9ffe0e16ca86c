use super::*;
use crate::api::common::condition::{READY, RECONCILING, STALLED};
use crate::chart::ChartError;
use crate::chart::tests::instance;
use crate::controllers::instance::observe::ObservedInstance;
use crate::instance::bundle::BundleError;
use crate::machinery::conditions::{find, is_true};
use serde_json::json;
use std::sync::Arc;

fn state(i: &KarmadaInstance, step: Step, api: Api) -> ReconcileState {
    let mut state = ReconcileState::begin(&ObservedInstance { instance: Arc::new(i.clone()), host: Host::default() });
    state.step = step;
    state.progress.api = api;
    state
}

fn status_of(
    i: &KarmadaInstance,
    host: &Host,
    state: &ReconcileState,
    error: Option<&InstanceError>,
) -> KarmadaInstanceStatus {
    after_round(&StatusInputs { instance: i, host, state, error, engine_image: "airdock:test", overview: None })
}

fn pod(component: &str, status: serde_json::Value) -> Host {
    let mut host = Host::default();
    let pod = json!({
        "metadata": { "name": format!("east-{component}-x"), "labels": { "app.kubernetes.io/component": component } },
        "status": status,
    });
    host.pods.insert("p".into(), Arc::new(serde_json::from_value(pod).unwrap()));
    host
}

#[test]
fn first_write_has_all_that_kstatus_needs() {
    let mut i = instance("Compact");
    i.metadata.generation = Some(3);
    let status = status_of(&i, &Host::default(), &state(&i, Step::AwaitApi, Api::Starting), None);
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.phase, Some(Phase::Installing));
    assert!(is_true(&status.conditions, RECONCILING));
    assert_eq!(find(&status.conditions, READY).unwrap().message, "waits for etcd (0/1); apiserver (0/1)");
    assert_eq!(status.components.len(), 4);
    assert_eq!(status.endpoint.as_deref(), Some("https://east-apiserver.fleet.svc:5443"));
}

#[test]
fn phases_follow_verdicts() {
    let mut i = instance("Full");
    let nothing = Host::default();
    let ready = status_of(&i, &nothing, &state(&i, Step::Settled, Api::Ready), None);
    assert_eq!((ready.phase, ready.version.as_deref()), (Some(Phase::Running), Some(KARMADA_VERSION)));
    assert!(is_true(&ready.conditions, READY));
    i.status = Some(ready);
    let away = state(&i, Step::AwaitApi, Api::Unreachable("connection refused".into()));
    let status = status_of(&i, &nothing, &away, None);
    assert_eq!(status.phase, Some(Phase::Degraded));
    assert!(find(&status.conditions, READY).unwrap().message.contains("connection refused"));
    let rolling = status_of(&i, &nothing, &state(&i, Step::AwaitComponents, Api::Ready), None);
    assert_eq!(rolling.phase, Some(Phase::Updating));
    assert_eq!(suspended(&i).phase, Some(Phase::Suspended));
}

#[test]
fn errors_that_need_somebody_are_stalled() {
    let i = instance("Full");
    let state = state(&i, Step::Base, Api::Starting);
    for (error, reason, stalled, phase) in [
        (
            InstanceError::from(ChartError::Invalid {
                field: "spec.x".into(),
                value: "v".into(),
                remedy: "do y".into(),
            }),
            "InvalidSpec",
            true,
            Phase::Failed,
        ),
        (
            InstanceError::from(BundleError::Checksum { from: "u".into(), wanted: "a".into(), found: "b".into() }),
            "BundleChecksumMismatch",
            true,
            Phase::Failed,
        ),
        (InstanceError::Taken { kind: "Service".into(), name: "east-etcd".into() }, "NameTaken", true, Phase::Failed),
        (
            InstanceError::from(BundleError::Fetch { from: "u".into(), problem: "refused".into() }),
            "BundleNotFetched",
            false,
            Phase::Installing,
        ),
    ] {
        let status = status_of(&i, &Host::default(), &state, Some(&error));
        assert_eq!(find(&status.conditions, READY).unwrap().reason, reason);
        assert_eq!(is_true(&status.conditions, STALLED), stalled, "{reason}");
        assert_eq!(status.phase, Some(phase), "{reason}");
    }
}

#[test]
fn pods_say_what_is_wrong() {
    let i = instance("Compact");
    for (status, words) in [
        (
            json!({ "containerStatuses": [{ "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image \"i\"" } } }] }),
            "pod east-engine-x: ImagePullBackOff: Back-off pulling image \"i\"",
        ),
        (
            json!({ "containerStatuses": [{ "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
                "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off" } },
                "lastState": { "terminated": { "exitCode": 2, "reason": "Error" } } }] }),
            "CrashLoopBackOff: the container ended with code 2 (Error)",
        ),
        (
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient cpu." }] }),
            "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
    ] {
        let host = pod("engine", status);
        let status = status_of(&i, &host, &state(&i, Step::AwaitComponents, Api::Ready), None);
        let ready = find(&status.conditions, READY).unwrap();
        assert!(ready.message.contains(words), "{}", ready.message);
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ComponentNotAvailable"));
    }
    let starting = pod(
        "engine",
        json!({ "containerStatuses": [{ "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ContainerCreating" } } }] }),
    );
    let status = status_of(&i, &starting, &state(&i, Step::AwaitComponents, Api::Ready), None);
    assert!(is_true(&status.conditions, RECONCILING));
}

#[test]
fn removal_names_who_holds_it_up() {
    let i = instance("Compact");
    let removal = Removal::InUse(vec!["MemberClusterJoin fleet/a".into()]);
    let status = removing(&i, Ok(&removal));
    let ready = find(&status.conditions, READY).unwrap();
    assert_eq!(ready.reason, "InUse");
    assert!(ready.message.contains("MemberClusterJoin fleet/a"));
    assert_eq!(status.phase, Some(Phase::Deleting));
}
