//! Applications against a real API server that is host cluster and plane in one. The test itself plays the engine:
//! it writes the bindings.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs)]

mod harness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use airdock::api::MultiCloudApp;
use airdock::controllers::app;
use airdock::karmada::{OverridePolicy, PropagationPolicy, ResourceBinding};
use airdock::machinery::conditions::find;
use harness::crash::{FaultInjector, Moment};
use harness::operator::Operator;
use harness::{ApiServer, Etcd, eventually, objects, servers};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

const SOON: Duration = Duration::from_secs(30);

/// One server for all tests, and one test at a time: an operator looks after every namespace.
struct TestEnv {
    host: ApiServer,
    _etcd: Etcd,
}

async fn env() -> (MutexGuard<'static, TestEnv>, Client) {
    static TEST_ENV: OnceCell<Mutex<TestEnv>> = OnceCell::const_new();
    let env = TEST_ENV.get_or_init(async || Mutex::new(begin().await)).await.lock().await;
    let client = env.host.client();
    (env, client)
}

async fn begin() -> TestEnv {
    let (etcd, [host]) = servers(["host"]).await;
    let client = host.client();
    let crds = [airdock::cli::crds::definitions(), airdock::karmada::definitions()].concat();
    objects::define(&client, &crds).await;
    for (name, region) in [("eu", "europe"), ("us", "america")] {
        let cluster = json!({
            "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
            "spec": {"syncMode": "Push", "region": region},
        });
        objects::apply(&client, cluster).await;
    }
    TestEnv { host, _etcd: etcd }
}

fn operator(host: &ApiServer, crash: &Arc<FaultInjector>) -> Operator {
    Operator::start(host, crash, |context| {
        tokio::spawn(app::run(context));
    })
}

/// Makes an instance that is installed; its plane is the host.
async fn instance(env: &TestEnv, namespace: &str, name: &str, spec: Value) {
    objects::ready_instance(&env.host.client(), namespace, name, spec, &env.host.kubeconfig()).await;
}

/// Waits until an object is gone.
async fn until_gone<K>(api: &Api<K>, name: &str)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    eventually(&format!("{name} is gone"), SOON, async || match api.get_opt(name).await.unwrap() {
        None => Ok(()),
        Some(object) => Err(format!("{object:?}")),
    })
    .await;
}

async fn put<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap()
}

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    })
}

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"colour": "blue"}})
}

fn application(team: &str, name: &str, manifests: Value, more: Value) -> Value {
    let mut spec = json!({"instanceRef": {"name": "fleet"}, "components": [{"name": "all", "manifests": manifests}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
        "metadata": {"name": name, "namespace": team}, "spec": spec,
    })
}

/// Plays the engine: places an object in both clusters, where all is well.
async fn bind(client: &Client, namespace: &str, kind: &str, name: &str) {
    let api = Api::<ResourceBinding>::namespaced(client.clone(), namespace);
    let binding = format!("{name}-{}", kind.to_lowercase());
    let api_version = if kind == "Deployment" { "apps/v1" } else { "v1" };
    let object = json!({
        "apiVersion": "work.karmada.io/v1alpha2", "kind": "ResourceBinding",
        "metadata": {"name": binding, "namespace": namespace},
        "spec": {
            "resource": {"apiVersion": api_version, "kind": kind, "name": name, "namespace": namespace},
            "clusters": [{"name": "eu"}, {"name": "us"}],
        },
    });
    put(&api, object).await;
    let item = |cluster: &str| json!({"clusterName": cluster, "applied": true, "health": "Healthy", "status": {"readyReplicas": 2}});
    let status = json!({"status": {"aggregatedStatus": [item("eu"), item("us")]}});
    api.patch_status(&binding, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

async fn names<K>(client: &Client, namespace: &str) -> BTreeSet<String>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let list = Api::<K>::namespaced(client.clone(), namespace).list(&ListParams::default()).await.unwrap();
    list.items.iter().map(ResourceExt::name_any).filter(|name| name != "kube-root-ca.crt").collect()
}

/// The one policy of a namespace, whose name carries a hash where the app comes from another.
async fn policy(client: &Client, namespace: &str) -> Option<PropagationPolicy> {
    let policies = Api::<PropagationPolicy>::namespaced(client.clone(), namespace);
    policies.list(&ListParams::default()).await.unwrap().items.pop()
}

/// How many objects that policy is for.
async fn selectors(client: &Client, namespace: &str) -> usize {
    policy(client, namespace).await.map_or(0, |policy| policy.spec.propagation.resource_selectors.len())
}

#[tokio::test]
async fn an_application_reaches_its_plane_and_is_kept_there() {
    let (env, client) = env().await;
    instance(&env, "story", "fleet", json!({})).await;
    let crash = Arc::new(FaultInjector::never());
    let operator = operator(&env.host, &crash);
    let apps = Api::<MultiCloudApp>::namespaced(client.clone(), "story");
    let web = Api::<Deployment>::namespaced(client.clone(), "shop");
    let configs = Api::<ConfigMap>::namespaced(client.clone(), "shop");

    let differences = json!([{"match": {"regions": ["europe"]}, "imageRegistry": "eu.example", "replicas": 2}]);
    let more = json!({"namespace": "shop", "differences": differences});
    put(&apps, application("story", "shop", json!([deployment("nginx"), config("one"), config("two")]), more.clone()))
        .await;
    let waiting = objects::until_app(&apps, "shop", "Unknown", "waiting for the plane to place Deployment web").await;
    assert_eq!(waiting.finalizers(), [app::FINALIZER]);
    assert_eq!(waiting.status.unwrap().inventory.len(), 5, "three templates and two policies");
    let live = web.get("web").await.unwrap();
    assert_eq!(live.labels()["airdock.dev/app"], "shop");

    for (kind, name) in [("Deployment", "web"), ("ConfigMap", "one"), ("ConfigMap", "two")] {
        bind(&client, "shop", kind, name).await;
    }
    let status = objects::until_app(&apps, "shop", "True", "runs in eu, us").await.status.unwrap();
    assert_eq!((status.clusters_ready.as_deref(), status.replicas_ready.as_deref()), (Some("2/2"), Some("4/4")));

    // What is as it should be is not written, whatever happens around it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = crash.writes();
    put(&Api::<ConfigMap>::namespaced(client.clone(), "shop"), config("somebody-elses")).await;
    let touch = json!({"metadata": {"annotations": {"touched": "yes"}}});
    web.patch("web", &PatchParams::default(), &Patch::Merge(&touch)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(crash.writes(), before);

    // An edit and a deletion in the plane are repaired.
    let edit = json!({"data": {"colour": "red"}});
    configs.patch("one", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    configs.delete("two", &DeleteParams::default()).await.unwrap();
    eventually("both are repaired", SOON, async || {
        let one = configs.get("one").await.unwrap().data.unwrap_or_default();
        let two = configs.get_opt("two").await.unwrap();
        let is_so = one["colour"] == "blue" && two.is_some();
        if is_so { Ok(()) } else { Err(format!("{one:?} and {two:?}")) }
    })
    .await;

    // A field and an object are taken out of the spec.
    let mut smaller = config("one");
    smaller["data"] = json!({"shape": "round"});
    put(&apps, application("story", "shop", json!([deployment("nginx"), smaller]), json!({"namespace": "shop"}))).await;
    eventually("what is not wanted is gone", SOON, async || {
        let data = configs.get("one").await.unwrap().data.unwrap_or_default();
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        let two = configs.get_opt("two").await.unwrap();
        let selectors = selectors(&client, "shop").await;
        let overrides = names::<OverridePolicy>(&client, "shop").await;
        let is_so = keys == ["shape"] && two.is_none() && selectors == 2 && overrides.is_empty();
        if is_so { Ok(()) } else { Err(format!("{keys:?}, {two:?}, {selectors} selectors, {overrides:?}")) }
    })
    .await;
    assert!(configs.get_opt("somebody-elses").await.unwrap().is_some());

    // It goes when its bindings have gone.
    apps.delete("shop", &DeleteParams::default()).await.unwrap();
    until_gone(&web, "web").await;
    until_gone(&configs, "one").await;
    let deleting = objects::until_app(&apps, "shop", "Unknown", "is removed from eu, us").await;
    assert!(deleting.metadata.deletion_timestamp.is_some());
    assert!(policy(&client, "shop").await.is_some(), "the policy stays until the members are clean");
    let bindings = Api::<ResourceBinding>::namespaced(client.clone(), "shop");
    for name in names::<ResourceBinding>(&client, "shop").await {
        bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    }
    until_gone(&apps, "shop").await;
    assert!(policy(&client, "shop").await.is_none());
    assert!(Api::<Namespace>::all(client.clone()).get_opt("shop").await.unwrap().is_some(), "others may use it");
    operator.kill();
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_named_and_recovers() {
    let (env, client) = env().await;
    instance(&env, "wrong", "fleet", json!({})).await;
    instance(&env, "landlord", "house", json!({"tenancy": {"allowedNamespaces": ["tenant"]}})).await;
    objects::namespace(&client, "tenant").await;
    let crash = Arc::new(FaultInjector::never());
    let operator = operator(&env.host, &crash);
    let apps = Api::<MultiCloudApp>::namespaced(client.clone(), "wrong");
    let refused = |name: &str, manifest: Value| application("wrong", name, json!([manifest]), json!({}));

    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "x"}});
    put(&apps, refused("scope", role)).await;
    let stalled = objects::until_app(&apps, "scope", "False", "ClusterRole is cluster-scoped").await;
    assert!(find(&stalled.status.unwrap().conditions, "Stalled").is_some());
    put(&apps, refused("scope", config("fine"))).await;
    objects::until_app(&apps, "scope", "Unknown", "waiting for the plane to place ConfigMap fine").await;

    // A kind that the plane does not know, until it does.
    let widget = json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "x"}});
    put(&apps, refused("kind", widget)).await;
    objects::until_app(&apps, "kind", "False", "kind Widget of example.org/v1 is not served by the plane").await;

    // What somebody else has is not taken.
    let configs = Api::<ConfigMap>::namespaced(client.clone(), "wrong");
    put(&configs, config("theirs")).await;
    put(&apps, refused("taken", config("theirs"))).await;
    objects::until_app(&apps, "taken", "False", "ConfigMap theirs exists in namespace wrong of the plane").await;
    put(&apps, refused("claimed", config("fine"))).await;
    objects::until_app(
        &apps,
        "claimed",
        "False",
        "ConfigMap fine in namespace wrong belongs to MultiCloudApp wrong/scope",
    )
    .await;
    assert!(configs.get("theirs").await.unwrap().labels().is_empty());

    // Instances that are not there, or do not consent.
    let mut lost = refused("lost", config("lost"));
    lost["spec"]["instanceRef"] = json!({"name": "nowhere"});
    put(&apps, lost).await;
    objects::until_app(&apps, "lost", "False", "there is no KarmadaInstance wrong/nowhere").await;
    let mut uninvited = refused("uninvited", config("uninvited"));
    uninvited["spec"]["instanceRef"] = json!({"name": "house", "namespace": "landlord"});
    put(&apps, uninvited).await;
    objects::until_app(&apps, "uninvited", "False", "lists namespace wrong in spec.tenancy.allowedNamespaces").await;
    let tenants = Api::<MultiCloudApp>::namespaced(client.clone(), "tenant");
    let mut tenant = application("tenant", "tenant", json!([config("a")]), json!({"namespace": "elsewhere"}));
    tenant["spec"]["instanceRef"] = json!({"name": "house", "namespace": "landlord"});
    put(&tenants, tenant.clone()).await;
    objects::until_app(&tenants, "tenant", "False", "elsewhere is not this object's namespace tenant").await;
    tenants.delete("tenant", &DeleteParams::default()).await.unwrap();
    // A refused app can be deleted.
    until_gone(&tenants, "tenant").await;
    tenant["spec"].as_object_mut().unwrap().remove("namespace");
    put(&tenants, tenant).await;
    objects::until_app(&tenants, "tenant", "Unknown", "waiting for the plane to place ConfigMap a").await;

    // The API server checks what it can by itself.
    let mut invalid = refused("invalid", config("x"));
    for (field, value, want) in [
        (
            "differences",
            json!([{"components": ["nope"], "replicas": 1}]),
            "names a component that spec.components does not have",
        ),
        ("differences", json!([{"components": ["all"]}]), "give at least one of imageRegistry, replicas, env, patches"),
        ("placement", json!({"replicas": {"weights": [{"weight": 1}]}}), "only with mode Weighted"),
        ("namespace", json!("Not_A_Name"), "spec.namespace"),
    ] {
        let before = invalid.clone();
        invalid["spec"][field] = value;
        let created = apps.create(&PostParams::default(), &serde_json::from_value(invalid).unwrap()).await;
        let error = created.expect_err(want).to_string();
        assert!(error.contains(want), "{error}");
        invalid = before;
    }
    operator.kill();
}

/// Whose an object is, by the mark on it.
fn owner(object: &ConfigMap) -> Option<String> {
    object.annotations().get("airdock.dev/owner-uid").cloned()
}

/// Applied in the same moment, again and again: one has the object, the other says whose it is and inherits it in place.
#[tokio::test]
async fn of_two_applications_that_want_an_object_one_has_it_and_the_other_inherits_it() {
    let (env, client) = env().await;
    instance(&env, "rivals", "fleet", json!({})).await;
    let operator = operator(&env.host, &Arc::new(FaultInjector::never()));
    let apps = Api::<MultiCloudApp>::namespaced(client.clone(), "rivals");
    let configs = Api::<ConfigMap>::namespaced(client.clone(), "rivals");
    for round in 0..8 {
        let shared = format!("shared-{round}");
        let rival = |name: &str| {
            let mut manifest = config(&shared);
            manifest["data"] = json!({"of": name, name: "a field of one of the two"});
            let operations = json!([{"op": "add", "path": "/data/patched", "value": name}]);
            let patches = json!([{"kind": "ConfigMap", "name": shared, "operations": operations}]);
            application("rivals", name, json!([manifest]), json!({"differences": [{"patches": patches}]}))
        };
        let names = [format!("one-{round}"), format!("two-{round}")];
        tokio::join!(put(&apps, rival(&names[0])), put(&apps, rival(&names[1])));
        let (winner, loser) = eventually("one has it", SOON, async || {
            let [one, two] = [apps.get(&names[0]).await.unwrap(), apps.get(&names[1]).await.unwrap()];
            let says = |app: &MultiCloudApp, words: &str| {
                let conditions = app.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
                find(conditions, "Ready").is_some_and(|ready| ready.message.contains(words))
            };
            let refused = |app, other: &MultiCloudApp| {
                let words = format!("ConfigMap {shared} in namespace rivals belongs to MultiCloudApp rivals/");
                says(app, &format!("{words}{}", other.name_any())) && says(other, "waiting for the plane to place")
            };
            match (refused(&one, &two), refused(&two, &one)) {
                (true, false) => Ok((two, one)),
                (false, true) => Ok((one, two)),
                _ => Err(format!("{:?} and {:?}", one.status, two.status)),
            }
        })
        .await;
        bind(&client, "rivals", "ConfigMap", &shared).await;
        objects::until_app(&apps, &winner.name_any(), "True", "runs in eu, us").await;
        objects::until_app(&apps, &loser.name_any(), "False", "belongs to").await;
        let before = configs.get(&shared).await.unwrap();
        assert_eq!(owner(&before), winner.uid());
        assert_eq!(before.data.clone().unwrap()["of"], winner.name_any());
        let selecting = |policies: Vec<Value>| {
            policies.iter().filter(|policy| policy["spec"]["resourceSelectors"][0]["name"] == shared.as_str()).count()
        };
        let policies = Api::<PropagationPolicy>::namespaced(client.clone(), "rivals");
        let placing = policies.list(&ListParams::default()).await.unwrap().items;
        assert_eq!(selecting(placing.iter().map(|policy| serde_json::to_value(policy).unwrap()).collect()), 1);
        let overriding = Api::<OverridePolicy>::namespaced(client.clone(), "rivals");
        let overriding = overriding.list(&ListParams::default()).await.unwrap().items;
        assert_eq!(selecting(overriding.iter().map(|policy| serde_json::to_value(policy).unwrap()).collect()), 1);

        // The owner goes; what it had stays, and is the other's.
        apps.delete(&winner.name_any(), &DeleteParams::default()).await.unwrap();
        until_gone(&apps, &winner.name_any()).await;
        objects::until_app(&apps, &loser.name_any(), "True", "runs in eu, us").await;
        let after = configs.get(&shared).await.unwrap();
        assert_eq!((after.uid(), owner(&after)), (before.uid(), loser.uid()), "handed over in place");
        let data = after.data.unwrap();
        assert_eq!(
            data.keys().cloned().collect::<Vec<_>>(),
            ["of".to_owned(), loser.name_any()],
            "nothing of the first stays"
        );
        assert_eq!(data["of"], loser.name_any());
    }
    operator.kill();
}

/// Whoever may write in the plane writes the uid of another application on an object.
#[tokio::test]
async fn a_forged_mark_takes_nothing_from_its_owner() {
    let (env, client) = env().await;
    instance(&env, "forged", "fleet", json!({})).await;
    let operator = operator(&env.host, &Arc::new(FaultInjector::never()));
    let apps = Api::<MultiCloudApp>::namespaced(client.clone(), "forged");
    let configs = Api::<ConfigMap>::namespaced(client.clone(), "forged");
    for name in ["one", "two"] {
        put(&apps, application("forged", name, json!([config(name)]), json!({}))).await;
        objects::until_app(&apps, name, "Unknown", "waiting for the plane to place").await;
    }
    let two = apps.get("two").await.unwrap().uid();
    let forged = json!({"metadata": {"annotations": {"airdock.dev/owner-uid": two}}});
    configs.patch("one", &PatchParams::default(), &Patch::Merge(&forged)).await.unwrap();
    let one = apps.get("one").await.unwrap().uid();
    eventually("the owner takes it back", SOON, async || {
        let found = configs.get("one").await.unwrap();
        if owner(&found) == one { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    objects::until_app(&apps, "one", "Unknown", "waiting for the plane to place").await;
    apps.delete("one", &DeleteParams::default()).await.unwrap();
    until_gone(&apps, "one").await;
    until_gone(&configs, "one").await;
    assert!(configs.get_opt("two").await.unwrap().is_some());
    operator.kill();
}

/// What an application inherits goes when it does not want it any more by then.
#[tokio::test]
async fn an_heir_removes_what_it_does_not_want_any_more() {
    let (env, client) = env().await;
    instance(&env, "heirs", "fleet", json!({})).await;
    let first = operator(&env.host, &Arc::new(FaultInjector::never()));
    let apps = Api::<MultiCloudApp>::namespaced(client.clone(), "heirs");
    let configs = Api::<ConfigMap>::namespaced(client.clone(), "heirs");
    let of = |name: &str, more: Value| application("heirs", name, json!([config("shared")]), more);
    put(&apps, of("owner", json!({}))).await;
    objects::until_app(&apps, "owner", "Unknown", "waiting for the plane to place").await;
    put(&apps, of("heir", json!({}))).await;
    objects::until_app(&apps, "heir", "False", "belongs to MultiCloudApp heirs/owner").await;
    // It is handed over while the heir does nothing, and then nobody looks.
    put(&apps, of("heir", json!({"suspend": true}))).await;
    objects::until_app(&apps, "heir", "False", "").await;
    apps.delete("owner", &DeleteParams::default()).await.unwrap();
    until_gone(&apps, "owner").await;
    let heir = apps.get("heir").await.unwrap();
    assert_eq!(owner(&configs.get("shared").await.unwrap()), heir.uid(), "handed over");
    first.kill();
    put(&apps, application("heirs", "heir", json!([config("own")]), json!({"suspend": false}))).await;
    let second = operator(&env.host, &Arc::new(FaultInjector::never()));
    until_gone(&configs, "shared").await;
    objects::until_app(&apps, "heir", "Unknown", "waiting for the plane to place ConfigMap own").await;
    assert_eq!(apps.get("heir").await.unwrap().status.unwrap().inventory.len(), 2);
    second.kill();
}

#[tokio::test]
async fn what_selects_nothing_is_named_beside_what_runs() {
    let (env, client) = env().await;
    instance(&env, "typos", "fleet", json!({})).await;
    let operator = operator(&env.host, &Arc::new(FaultInjector::never()));
    let apps = Api::<MultiCloudApp>::namespaced(client.clone(), "typos");
    let placed = |regions: Value| {
        application("typos", "shop", json!([config("one")]), json!({"placement": {"regions": regions}}))
    };
    put(&apps, placed(json!(["europe", "amerika"]))).await;
    objects::until_app(&apps, "shop", "Unknown", "waiting for the plane").await;
    bind(&client, "typos", "ConfigMap", "one").await;
    let status = objects::until_app(&apps, "shop", "True", "runs in").await.status.unwrap();
    let matched = find(&status.conditions, "SelectorsMatched").unwrap();
    assert_eq!((matched.status.as_str(), matched.reason.as_str()), ("False", "NothingSelected"));
    let words = "spec.placement.regions[1]: \"amerika\" (is \"america\" meant?)";
    assert!(matched.message.contains(words), "{}", matched.message);
    put(&apps, placed(json!(["europe", "america"]))).await;
    let status = objects::until_app(&apps, "shop", "True", "runs in").await.status.unwrap();
    assert!(find(&status.conditions, "SelectorsMatched").is_none());
    operator.kill();
}

/// Kills the operator at each of its writes, before it is sent and after it was carried out, and lets another go on.
#[tokio::test]
async fn an_application_that_cannot_be_read_stops_nobody() {
    let (env, client) = env().await;
    instance(&env, "deep", "fleet", json!({})).await;
    let manifest = deep_manifest();
    let send = async |method: http::Method, path: &str, body: String| {
        send(&client, method, "deep", path, "application/json", body).await
    };
    let spec =
        format!(r#"{{"instanceRef":{{"name":"fleet"}},"components":[{{"name":"all","manifests":[{manifest}]}}]}}"#);
    let body = format!(
        r#"{{"apiVersion":"airdock.dev/v1alpha1","kind":"MultiCloudApp","metadata":{{"name":"bad"}},"spec":{spec}}}"#
    );
    send(http::Method::POST, "", body).await;
    // The operator starts with the object there already.
    let crash = Arc::new(FaultInjector::never());
    let operator = operator(&env.host, &crash);
    let apps = Api::<MultiCloudApp>::namespaced(client.clone(), "deep");
    put(&apps, application("deep", "good", json!([config("one")]), json!({}))).await;
    objects::until_app(&apps, "good", "Unknown", "waiting for the plane to place ConfigMap one").await;
    bind(&client, "deep", "ConfigMap", "one").await;
    objects::until_app(&apps, "good", "True", "runs in eu, us").await;

    let bad = eventually("the bad one is told so", SOON, async || {
        let text = send(http::Method::GET, "/bad", String::new()).await;
        let read = airdock::runtime::guarded::Guarded::<MultiCloudApp>::of_json(&text).0.unwrap_err();
        if read.status["conditions"].is_array() { Ok(read) } else { Err(read.status.to_string()) }
    })
    .await;
    let ready = &bad.status["conditions"][0];
    assert_eq!(
        (&ready["type"], &ready["status"], &ready["reason"]),
        (&json!("Ready"), &json!("False"), &json!("InvalidObject"))
    );
    assert!(ready["message"].as_str().unwrap().contains("levels deep"), "{ready}");
    assert_eq!(bad.status["observedGeneration"], json!(1));

    // Corrected, it is carried out, and nothing is left of the complaint.
    let spec = application("deep", "bad", json!([config("two")]), json!({}))["spec"].clone();
    send_merge(&client, "bad", &json!({"spec": spec})).await;
    let waiting = objects::until_app(&apps, "bad", "Unknown", "waiting for the plane to place ConfigMap two").await;
    assert!(find(&waiting.status.unwrap().conditions, "Stalled").is_none());
    operator.kill();
    for name in ["good", "bad"] {
        let free = json!({"metadata": {"finalizers": null}});
        apps.patch(name, &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
        apps.delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// A namespace that was made for applications goes with the last of them, and not with anything of somebody else in it.
#[tokio::test]
async fn a_namespace_goes_with_the_last_application_that_it_was_made_for() {
    let (env, client) = env().await;
    instance(&env, "leaving", "fleet", json!({})).await;
    let operator = operator(&env.host, &Arc::new(FaultInjector::never()));
    let apps = Api::<MultiCloudApp>::namespaced(client.clone(), "leaving");
    let namespaces = Api::<Namespace>::all(client.clone());
    let configs = Api::<ConfigMap>::namespaced(client.clone(), "left-shop");
    let into = |name: &str, namespace: &str| {
        application("leaving", name, json!([config(name)]), json!({"namespace": namespace}))
    };
    let install = async |name: &str, namespace: &str| {
        put(&apps, into(name, namespace)).await;
        objects::until_app(&apps, name, "Unknown", "waiting for the plane to place").await;
    };
    let uninstall = async |name: &str| {
        apps.delete(name, &DeleteParams::default()).await.unwrap();
        until_gone(&apps, name).await;
    };
    let is_ending =
        async |namespace: &str| namespaces.get(namespace).await.unwrap().metadata.deletion_timestamp.is_some();
    install("one", "left-shop").await;
    install("two", "left-shop").await;
    assert_eq!(namespaces.get("left-shop").await.unwrap().annotations()["airdock.dev/created-for"], "applications");
    uninstall("one").await;
    assert!(!is_ending("left-shop").await, "another application is there");
    put(&configs, config("theirs")).await;
    uninstall("two").await;
    assert!(!is_ending("left-shop").await, "somebody's ConfigMap is there");
    let events = Api::<k8s_openapi::api::events::v1::Event>::namespaced(client.clone(), "leaving");
    let notes: Vec<String> =
        events.list(&ListParams::default()).await.unwrap().items.into_iter().filter_map(|event| event.note).collect();
    assert!(notes.iter().any(|note| note.contains("it holds ConfigMap left-shop/theirs")), "{notes:?}");
    configs.delete("theirs", &DeleteParams::default()).await.unwrap();
    install("three", "left-shop").await;
    uninstall("three").await;
    assert!(is_ending("left-shop").await, "nobody needs it");

    // Applied again at once, it waits for the old namespace and no longer.
    put(&apps, into("four", "left-shop")).await;
    objects::until_app(&apps, "four", "False", "namespace left-shop of the plane is being deleted").await;
    objects::finalize_namespace(&client, "left-shop").await;
    objects::until_app(&apps, "four", "Unknown", "waiting for the plane to place").await;

    // One that somebody else made stays.
    objects::namespace(&client, "their-shop").await;
    install("five", "their-shop").await;
    uninstall("five").await;
    assert!(!is_ending("their-shop").await);
    operator.kill();
}

async fn send_merge(client: &Client, name: &str, patch: &Value) {
    let path = format!("/{name}");
    send(client, http::Method::PATCH, "deep", &path, "application/merge-patch+json", patch.to_string()).await;
}

/// A manifest that is deeper than anything here can read.
fn deep_manifest() -> String {
    let nested = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"x"}},"data":{nested}}}"#)
}

/// Sends something about applications as text.
async fn send(client: &Client, method: http::Method, team: &str, path: &str, type_: &str, body: String) -> String {
    let uri = format!("/apis/airdock.dev/v1alpha1/namespaces/{team}/multicloudapps{path}");
    let request = http::Request::builder().method(method).uri(uri).header("content-type", type_);
    client.request_text(request.body(body.into_bytes()).unwrap()).await.unwrap()
}

/// What an application has is removed with it, though it became unreadable before.
#[tokio::test]
async fn an_application_that_became_unreadable_is_removed_with_all_that_it_has() {
    let (env, client) = env().await;
    instance(&env, "sunk", "fleet", json!({})).await;
    let operator = operator(&env.host, &Arc::new(FaultInjector::never()));
    let apps = Api::<MultiCloudApp>::namespaced(client.clone(), "sunk");
    let configs = Api::<ConfigMap>::namespaced(client.clone(), "sunk");
    for (name, is_replaced) in [("patched", false), ("replaced", true)] {
        put(&apps, application("sunk", name, json!([config(name)]), json!({}))).await;
        let app = objects::until_app(&apps, name, "Unknown", "waiting for the plane to place").await;
        let components = format!(r#"[{{"name":"all","manifests":[{}]}}]"#, deep_manifest());
        let path = format!("/{name}");
        if is_replaced {
            let metadata = json!({"name": name, "resourceVersion": app.resource_version()});
            let body = format!(
                r#"{{"apiVersion":"airdock.dev/v1alpha1","kind":"MultiCloudApp","metadata":{metadata},
                "spec":{{"instanceRef":{{"name":"fleet"}},"components":{components}}}}}"#
            );
            send(&client, http::Method::PUT, "sunk", &path, "application/json", body).await;
        } else {
            let body = format!(r#"{{"spec":{{"components":{components}}}}}"#);
            send(&client, http::Method::PATCH, "sunk", &path, "application/merge-patch+json", body).await;
        }
        let get = async || send(&client, http::Method::GET, "sunk", &path, "application/json", String::new()).await;
        eventually("its finalizer is there", SOON, async || {
            let known = airdock::runtime::guarded::Guarded::<MultiCloudApp>::of_json(&get().await).0.unwrap_err();
            let is_told = known.status["conditions"][0]["reason"] == "InvalidObject";
            let is_held = known.metadata.finalizers.iter().flatten().any(|held| held == app::FINALIZER);
            if is_told && is_held { Ok(()) } else { Err(format!("{:?} {}", known.metadata, known.status)) }
        })
        .await;
        assert!(configs.get_opt(name).await.unwrap().is_some(), "what runs goes on running");
        send(&client, http::Method::DELETE, "sunk", &path, "application/json", String::new()).await;
        until_gone(&configs, name).await;
        let all = Api::<kube::core::PartialObjectMeta<MultiCloudApp>>::namespaced(client.clone(), "sunk");
        eventually("it is gone", SOON, async || {
            let left = all.list_metadata(&ListParams::default().fields(&format!("metadata.name={name}"))).await;
            match left {
                Ok(left) if left.items.is_empty() => Ok(()),
                left => Err(format!("{left:?}")),
            }
        })
        .await;
        assert!(policy(&client, "sunk").await.is_none());
    }
    operator.kill();
}

#[tokio::test]
async fn killed_at_any_write_it_ends_the_same() {
    let (env, client) = env().await;
    let manifests = json!([deployment("nginx"), config("one")]);
    let more = json!({"namespace": "crash-shop", "differences": [{"replicas": 3}]});
    let mut k = 0;
    loop {
        k += 1;
        let mut reached = false;
        for moment in [Moment::Before, Moment::After] {
            let team = format!("crash-{k}-{moment:?}").to_lowercase();
            instance(&env, &team, "fleet", json!({})).await;
            let apps = Api::<MultiCloudApp>::namespaced(client.clone(), &team);
            let mut more = more.clone();
            more["namespace"] = json!(format!("{team}-shop"));
            let shop = format!("{team}-shop");

            // Install, killed at the k-th write.
            let crash = Arc::new(FaultInjector::at(k, moment));
            let first = operator(&env.host, &crash);
            put(&apps, application(&team, "shop", manifests.clone(), more.clone())).await;
            let installed = async { objects::until_app(&apps, "shop", "Unknown", "waiting for the plane").await };
            tokio::select! {
                () = crash.happened() => reached = true,
                _ = installed => {}
            }
            first.kill();
            // The spec changes while nobody looks: what was begun must not be forgotten.
            put(&apps, application(&team, "shop", json!([deployment("nginx"), config("two")]), more.clone())).await;
            let second = operator(&env.host, &Arc::new(FaultInjector::never()));
            eventually(&format!("{team} is installed"), SOON, async || {
                let found = names::<ConfigMap>(&client, &shop).await;
                if found == BTreeSet::from(["two".to_owned()]) { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await;
            objects::until_app(&apps, "shop", "Unknown", "waiting for the plane to place Deployment web").await;
            eventually("the policy names what is there", SOON, async || {
                let found = selectors(&client, &shop).await;
                if found == 2 { Ok(()) } else { Err(format!("{found} selectors")) }
            })
            .await;
            second.kill();

            // Removal, killed at the k-th write.
            let crash = Arc::new(FaultInjector::at(k, moment));
            let third = operator(&env.host, &crash);
            apps.delete("shop", &DeleteParams::default()).await.unwrap();
            tokio::select! {
                () = crash.happened() => reached = true,
                () = until_gone(&apps, "shop") => {}
            }
            third.kill();
            let fourth = operator(&env.host, &Arc::new(FaultInjector::never()));
            until_gone(&apps, "shop").await;
            fourth.kill();
            assert_eq!(names::<Deployment>(&client, &shop).await.len(), 0, "leaked by {team}");
            assert_eq!(names::<ConfigMap>(&client, &shop).await.len(), 0, "leaked by {team}");
            assert_eq!(names::<PropagationPolicy>(&client, &shop).await.len(), 0, "leaked by {team}");
            assert_eq!(names::<OverridePolicy>(&client, &shop).await.len(), 0, "leaked by {team}");
            let namespace = Api::<Namespace>::all(client.clone()).get(&shop).await.unwrap();
            assert!(namespace.metadata.deletion_timestamp.is_some(), "namespace leaked by {team}");
        }
        if !reached {
            break;
        }
    }
    assert!(k > 6, "an app is written in more than six steps, not {k}");
}
