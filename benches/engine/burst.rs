//! A thousand custom objects at once, against the bare writes that they amount to.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, ObjectMeta, TypeMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};

use crate::engine_process::EngineProcess;
use crate::fleet::limit;
use crate::harness::{ApiServer, eventually, objects};
use crate::plane::{Plane, create_all};
use crate::report::Report;
use crate::{row, workload};

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
const WIDGET: (&str, &str) = ("bench.airdock.dev/v1", "Widget");
const BINDING: (&str, &str) = ("work.karmada.io/v1alpha2", "ResourceBinding");
const OBJECTS: usize = 1000;
const RUNS: usize = 3;
const NAMESPACE: &str = "bench";
const FLOOR_NAMESPACE: &str = "bench-floor";

pub async fn run(report: &mut Report) {
    let plane = Plane::start().await;
    let mut servers: Vec<ApiServer> = NAMES.iter().map(|name| ApiServer::start(&plane.etcd, name)).collect();
    let mut members = Vec::new();
    let definition = [serde_json::from_value(workload::widgets()).unwrap()];
    objects::define(&plane.client, &definition).await;
    for namespace in [NAMESPACE, FLOOR_NAMESPACE] {
        objects::namespace(&plane.client, namespace).await;
    }
    for server in &mut servers {
        server.ready().await;
        let client = server.client();
        objects::define(&client, &definition).await;
        objects::namespace(&client, FLOOR_NAMESPACE).await;
        objects::join(&plane.client, &server.name, &server.url(), &server.ca, "bench").await;
        members.push(client);
    }
    plane.propagate(&[WIDGET]).await;
    let what = "1,000 custom objects created in the plane → all in 3 members";
    let in_members = "3,000 bare creates: the objects in the 3 members";
    let everywhere = "5,000 bare creates: the objects in plane and members, and the bindings";
    let mut engine = EngineProcess::start(&plane.server).await;
    engine.until_quiet(limit()).await;
    for _ in 0..RUNS {
        let before = engine.cpu();
        report.add(what, propagated(&plane, &members).await);
        report.add("of these, the engine's processor time", engine.cpu() - before);
        engine.until_quiet(limit()).await;
        let made = in_floor_namespace(&plane.client).await;
        clear(&plane.client, &members, NAMESPACE).await;
        engine.until_quiet(limit()).await;
        report.note("1,000 custom objects × 3 members: engine memory", engine.memory().to_string());
        // An engine would take the floor's objects for templates.
        engine.kill();
        report.add(in_members, bare(&plane.client, &members, Vec::new()).await);
        report.add(everywhere, bare(&plane.client, &members, made).await);
        engine = EngineProcess::start(&plane.server).await;
        engine.until_quiet(limit()).await;
    }
    for floor in [in_members, everywhere] {
        let ratio = report.median(what) / report.median(floor);
        let measured = format!("{:.2} s against {:.2} s: {ratio:.2} ×", report.median(what), report.median(floor));
        row(report, &format!("{what}, against {floor}"), &measured, "1.15 × the bare writes");
    }
}

fn bindings(client: &Client, namespace: &str) -> Api<DynamicObject> {
    objects::api(client, BINDING.0, BINDING.1, namespace)
}

/// The plane's templates and bindings, as they are to be created by hand in the namespace of the floor.
async fn in_floor_namespace(plane: &Client) -> Vec<DynamicObject> {
    let mut made = Vec::new();
    for (api, resource) in [(widgets(plane, NAMESPACE), WIDGET), (bindings(plane, NAMESPACE), BINDING)] {
        let types = Some(TypeMeta { api_version: resource.0.to_owned(), kind: resource.1.to_owned() });
        let listed = api.list(&ListParams::default()).await.unwrap();
        made.extend(listed.into_iter().map(|object| DynamicObject { types: types.clone(), ..object }));
    }
    assert_eq!(made.len(), 2 * OBJECTS, "each template has a binding");
    for object in &mut made {
        object.metadata = ObjectMeta {
            name: object.metadata.name.take(),
            namespace: Some(FLOOR_NAMESPACE.to_owned()),
            labels: object.metadata.labels.take(),
            annotations: object.metadata.annotations.take(),
            ..Default::default()
        };
    }
    made
}

fn widgets(client: &Client, namespace: &str) -> Api<DynamicObject> {
    objects::api(client, WIDGET.0, WIDGET.1, namespace)
}

fn name(n: usize) -> String {
    format!("widget-{n:04}")
}

/// Creates as many objects in the members, and these in the plane.
async fn bare(plane: &Client, members: &[Client], in_plane: Vec<DynamicObject>) -> Duration {
    let started = Instant::now();
    let all = (0..OBJECTS).flat_map(|n| members.iter().map(move |member| (member, n)));
    let in_members = all.map(|(member, n)| (member, workload::widget(FLOOR_NAMESPACE, &name(n))));
    let in_plane = in_plane.into_iter().map(|object| (plane, serde_json::to_value(object).unwrap()));
    create_all(in_plane.chain(in_members)).await;
    let took = started.elapsed();
    for cluster in members.iter().chain([plane]) {
        empty(&widgets(cluster, FLOOR_NAMESPACE)).await;
    }
    empty(&bindings(plane, FLOOR_NAMESPACE)).await;
    took
}

async fn propagated(plane: &Plane, members: &[Client]) -> Duration {
    let started = Instant::now();
    let create = create_all((0..OBJECTS).map(|n| (&plane.client, workload::widget(NAMESPACE, &name(n)))));
    let present = stream::iter(members)
        .map(|member| until_present(member, started))
        .buffer_unordered(members.len())
        .fold(Duration::ZERO, async |latest, one| latest.max(one));
    let all = futures::future::join(create, present);
    let ((), present) = tokio::time::timeout(limit(), all).await.expect("all are there in time");
    present
}

/// Tells, by one watch, when all are there.
async fn until_present(member: &Client, started: Instant) -> Duration {
    let events = watcher(widgets(member, NAMESPACE), watcher::Config::default());
    let mut applied = std::pin::pin!(events.default_backoff().applied_objects());
    let mut seen = HashSet::new();
    while seen.len() < OBJECTS {
        if let Ok(Some(object)) = applied.try_next().await {
            seen.insert(object.name_any());
        }
    }
    started.elapsed()
}

/// Removes them from the plane, and waits until the members are rid of them.
async fn clear(plane: &Client, members: &[Client], namespace: &str) {
    empty(&widgets(plane, namespace)).await;
    for member in members {
        eventually("the members are empty again", limit(), async || {
            let left = widgets(member, namespace).list_metadata(&ListParams::default().limit(1)).await.unwrap();
            if left.items.is_empty() { Ok(()) } else { Err("objects are left".to_owned()) }
        })
        .await;
    }
}

async fn empty(api: &Api<DynamicObject>) {
    // A thousand deletions may take longer than one request may.
    eventually("objects are deleted", limit(), async || {
        let all = ListParams::default();
        let deleted = api.delete_collection(&DeleteParams::default(), &all).await;
        deleted.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
}
