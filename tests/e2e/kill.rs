//! kill -9 at any moment: what was begun is finished, once.
//!
//! The operator in the cluster is stopped, and one in this process takes its place, on a runtime of its own. Its
//! clients stop for ever at the n-th write, either before it is sent or before its answer is seen; then the runtime
//! is dropped with all that it knew, and the next one begins. That is what kill -9 is to everybody else.

use std::sync::Arc;
use std::time::Duration;

use airdock::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp};
use airdock::cli::controller::{self, ControllerArgs};
use airdock::cli::election::ElectionArgs;
use airdock::runtime::client::ClientFactory;
use airdock::runtime::metrics::Metrics;
use airdock::runtime::planes::ServiceAccess;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::crash::{FaultInjector, Moment};
use crate::fleet;
use crate::lab;

/// Events and leases are not work.
fn is_work(path: &str) -> bool {
    !path.contains("/events") && !path.contains("/leases/")
}

fn args() -> ControllerArgs {
    ControllerArgs {
        listen: "127.0.0.1:0".parse().unwrap(),
        namespace: "airdock-system".into(),
        election: ElectionArgs { leader_elect: false, identity: None },
        image: airdock::cli::DEFAULT_IMAGE.into(),
        service_access: ServiceAccess::ClusterIp,
    }
}

/// How long a piece of work may take, all kills included.
const CONVERGED_WITHIN: Duration = Duration::from_secs(300);

/// Runs an operator until it has made `writes` writes, or `done` says that there is nothing left to do. Tells
/// whether it was killed.
async fn operator_until(writes: usize, moment: Moment, done: &mut impl AsyncFnMut() -> bool) -> bool {
    // So many go through, and the next one never ends.
    let crash = Arc::new(FaultInjector::at(writes + 1, moment).counting(is_work));
    let hook = crash.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.spawn(async move {
        let factory = ClientFactory::default().with_hook(hook);
        let host = factory.trusted_file(&lab::folder().join("host.kubeconfig")).await.unwrap();
        controller::run_with(args(), host, factory, Metrics::new(), std::future::pending()).await.unwrap();
    });
    let killed = loop {
        tokio::select! {
            () = crash.happened() => break true,
            () = tokio::time::sleep(Duration::from_millis(200)) => if done().await { break false },
        }
    };
    runtime.shutdown_background();
    killed
}

/// Kills operators at every `step`-th write until the work is done; tells how often.
async fn kill_until(what: &str, step: usize, mut done: impl AsyncFnMut() -> bool) -> usize {
    let mut kills = 0;
    let moments = [Moment::Before, Moment::After];
    let converging = async {
        while operator_until(step + kills % 3, moments[kills % 2], &mut done).await {
            kills += 1;
        }
    };
    let converged = tokio::time::timeout(CONVERGED_WITHIN, converging).await;
    assert!(converged.is_ok(), "{what} does not converge; killed {kills} times");
    println!("{what}: converged after {kills} kills");
    kills
}

fn scale_operator(replicas: u32) {
    let scale = format!("--replicas={replicas}");
    let wait = if replicas == 0 {
        ["wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=airdock", "--timeout=60s"].as_slice()
    } else {
        ["rollout", "status", "deployment/airdock", "--timeout=60s"].as_slice()
    };
    for command in [["scale", "deployment/airdock", &scale].as_slice(), wait] {
        let (ok, text) = lab::kubectl(&[["-n", "airdock-system"].as_slice(), command].concat());
        assert!(ok, "{text}");
    }
}

/// Starts the operator in the cluster again, however the test ends.
struct OperatorBack;

impl Drop for OperatorBack {
    fn drop(&mut self) {
        scale_operator(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_is_killed_during_install_join_app_and_delete() {
    let _lab = lab::alone().await;
    let host = lab::host().await;
    let namespace = "e2e-kill";
    lab::namespace(&host, namespace).await;
    // What an undisturbed installation looks like.
    fleet::instance(&host, namespace, "calm", "").await;
    let instances: Api<KarmadaInstance> = Api::namespaced(host.clone(), namespace);
    let calm = crate::instance::children(&host, namespace, "calm").await;
    lab::delete(&instances, "calm", 90).await;
    scale_operator(0);
    let _back = OperatorBack;

    lab::apply(&fleet::manifest(namespace, "calm", ""));
    let mut kills = kill_until("install", 5, async || is_ready(&instances, "calm").await).await;
    assert_eq!(crate::instance::children(&host, namespace, "calm").await, calm, "the same objects, none twice");

    fleet::join(&host, namespace, "calm", "us", "us-east", "borealis").await;
    let members: Api<MemberClusterJoin> = Api::namespaced(host.clone(), namespace);
    kills += kill_until("join", 2, async || is_ready(&members, "us").await).await;

    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: MultiCloudApp\nmetadata: {{name: app, namespace: {namespace}}}\n\
         spec: {{instanceRef: {{name: calm}}, namespace: kill-app, components: [{{name: a, manifests: \
         [{{apiVersion: v1, kind: ConfigMap, metadata: {{name: x}}, data: {{a: b}}}}]}}]}}\n"
    ));
    let apps: Api<MultiCloudApp> = Api::namespaced(host.clone(), namespace);
    kills += kill_until("application", 1, async || is_ready(&apps, "app").await).await;

    // Everything is deleted at once; the order is the operator's business.
    for (kind, name) in [("mca", "app"), ("mcj", "us"), ("ki", "calm")] {
        let (ok, text) = lab::kubectl(&["-n", namespace, "delete", kind, name, "--wait=false"]);
        assert!(ok, "{text}");
    }
    kills += kill_until("delete", 2, async || {
        instances.get_opt("calm").await.unwrap().is_none()
            && members.get_opt("us").await.unwrap().is_none()
            && apps.get_opt("app").await.unwrap().is_none()
    })
    .await;
    assert!(kills >= 10, "only {kills} kills");
    let left = crate::instance::children(&host, namespace, "calm").await;
    assert!(left.is_empty(), "left behind: {left:?}");
    let us = lab::member("us").await;
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(us.clone(), "kill-app");
    assert!(maps.get_opt("x").await.unwrap().is_none(), "the application is gone from the member");
    let roles: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(us);
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=airdock");
    let names: Vec<String> = roles.list(&ours).await.unwrap().iter().map(ResourceExt::name_any).collect();
    assert!(!names.iter().any(|name| name.contains("calm")), "left in the member: {names:?}");
}

async fn is_ready<K>(api: &Api<K>, name: &str) -> bool
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    api.get_opt(name).await.ok().flatten().is_some_and(|object| lab::ready(&object).0 == "True")
}

#[tokio::test]
async fn the_engine_and_the_operator_come_back_from_kill_9() {
    let _lab = lab::alone().await;
    let fleet = fleet::fleet().await;
    let apps: Api<MultiCloudApp> = Api::namespaced(fleet.host.clone(), fleet::NAMESPACE);
    let manifest = |name: &str| {
        format!(
            "apiVersion: airdock.dev/v1alpha1\nkind: MultiCloudApp\nmetadata: {{name: {name}, namespace: {}}}\n\
             spec: {{instanceRef: {{name: {}}}, namespace: {name}, components: [{{name: a, manifests: \
             [{{apiVersion: v1, kind: ConfigMap, metadata: {{name: x}}, data: {{a: b}}}}]}}]}}\n",
            fleet::NAMESPACE,
            fleet::INSTANCE
        )
    };
    for (round, binary) in ["engine", "controller"].into_iter().enumerate() {
        let running = lab::processes("airdock", binary);
        assert!(!running.is_empty(), "no airdock {binary} runs in the lab");
        let name = format!("phoenix-{round}");
        lab::apply(&manifest(&name));
        lab::kill_9(&running);
        lab::until_ready(&apps, &name, 90).await;
        lab::delete(&apps, &name, 60).await;
    }
}

/// Who leads the operators, by their Lease.
async fn leader(host: &kube::Client) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(host.clone(), "airdock-system");
    let lease = leases.get("airdock-controller").await.unwrap();
    lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

#[tokio::test]
async fn a_standby_takes_over_at_once_from_a_leader_that_ends() {
    let _lab = lab::alone().await;
    let host = lab::host().await;
    let namespace = "e2e-standby";
    lab::namespace(&host, namespace).await;
    let _back = OperatorBack;
    scale_operator(2);
    let first = leader(&host).await.expect("a leader");
    let (ok, text) = lab::kubectl(&["-n", "airdock-system", "delete", "pod", &first, "--wait=false"]);
    assert!(ok, "{text}");
    // Much less than the 15 seconds that the claim of one that died would hold.
    let second = lab::eventually("a standby leads", 8, async || leader(&host).await.filter(|now| *now != first)).await;
    lab::apply(&fleet::manifest(namespace, "after", ""));
    let instances: Api<KarmadaInstance> = Api::namespaced(host.clone(), namespace);
    lab::until_ready(&instances, "after", 90).await;
    assert_eq!(leader(&host).await, Some(second), "and goes on leading");
    lab::delete(&instances, "after", 90).await;
}
