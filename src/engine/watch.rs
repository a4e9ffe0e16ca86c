//! Watches: list, then follow, for ever.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::Api;
use kube::core::{ApiResource, DynamicResourceScope};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::mirror::{Mirror, Mirrored};
use super::rest::{Rest, is_kind_missing};
use crate::machinery::error::chain;
use crate::runtime::guarded::{PAGE, read_any};

/// How long other lists of a cluster wait for one that is not complete.
const LIST_PERMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// An object of any kind, as the text that came. A parsed page takes ten times as much memory; each object is parsed by
/// itself, when its turn has come.
#[derive(Clone, Debug)]
pub struct Document {
    json: Box<RawValue>,
    // What the watcher itself looks at.
    meta: ObjectMeta,
}

impl Document {
    /// The object as JSON, with its kind, which items of lists do not name. What of it cannot be read is left out, and said
    /// so.
    fn read(&self, resource: &ApiResource) -> Result<Value, serde_json::Error> {
        let mut value = read_any(self.json.get())?;
        if let Some(map) = value.as_object_mut() {
            map.insert("apiVersion".to_owned(), Value::String(resource.api_version.clone()));
            map.insert("kind".to_owned(), Value::String(resource.kind.clone()));
        }
        Ok(value)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            name: Option<String>,
            namespace: Option<String>,
            uid: Option<String>,
            resource_version: Option<String>,
        }
        // One object that is nested too deep must not fail the list that it is in: what is not named here is passed over
        // without a look into it.
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let Metadata { name, namespace, uid, resource_version } =
            serde_json::from_str::<Wire>(json.get()).map_err(D::Error::custom)?.metadata;
        let meta = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
        Ok(Self { json, meta })
    }
}

impl Resource for Document {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// What becomes of a watch whose kind is not served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnserved {
    /// It tries again, less and less often.
    TryAgain,
    /// It ends.
    End,
}

/// Follows objects of any kind into a mirror.
pub async fn mirror_json<M: Mirror<Object = Value>>(
    rest: &Rest,
    resource: ApiResource,
    namespace: Option<&str>,
    labels: Option<&str>,
    when_unserved: WhenUnserved,
    mirror: M,
) {
    let api: Api<Document> = match namespace {
        Some(namespace) => Api::namespaced_with(rest.client().clone(), namespace, &resource),
        None => Api::all_with(rest.client().clone(), &resource),
    };
    let read = |document: Document| {
        document.read(&resource).inspect_err(|error| {
            let ObjectMeta { namespace, name, .. } = &document.meta;
            tracing::warn!(error = chain(error), kind = resource.kind, namespace, name, "object is no JSON object");
        })
    };
    let mut mirrored = Mirrored::new(mirror);
    let on_event = |event| {
        let event = match event {
            Event::Init => Event::Init,
            Event::InitApply(document) => Event::InitApply(read(document)?),
            Event::InitDone => Event::InitDone,
            Event::Apply(document) => Event::Apply(read(document)?),
            Event::Delete(document) => Event::Delete(read(document)?),
        };
        mirrored.apply(event);
        Ok::<(), serde_json::Error>(())
    };
    follow_until(rest, api, labels, &resource.kind, on_event, |error| {
        when_unserved == WhenUnserved::End && is_unserved(error)
    })
    .await;
}

/// Whether an error tells that a kind is not served.
fn is_unserved(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => is_kind_missing(error),
        _ => false,
    }
}

/// Follows objects of one type into a mirror.
pub async fn mirror<M>(rest: Rest, mirror: M)
where
    M: Mirror,
    M::Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<M::Object> = Api::all(rest.client().clone());
    let mut mirrored = Mirrored::new(mirror);
    follow(&rest, api, None, &M::Object::kind(&()), |event| {
        mirrored.apply(event);
        Ok::<(), Infallible>(())
    })
    .await;
}

/// Follows objects, for ever. An object that is not taken is passed over.
pub async fn follow<K, E>(
    rest: &Rest,
    api: Api<K>,
    labels: Option<&str>,
    kind: &str,
    on_event: impl FnMut(Event<K>) -> Result<(), E> + Send,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    follow_until(rest, api, labels, kind, on_event, |_| false).await;
}

/// Follows objects until an error is final. An object that is not taken is passed over.
async fn follow_until<K, E>(
    rest: &Rest,
    api: Api<K>,
    labels: Option<&str>,
    kind: &str,
    mut on_event: impl FnMut(Event<K>) -> Result<(), E> + Send,
    is_final: impl Fn(&watcher::Error) -> bool + Send,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut config = watcher::Config::default().page_size(PAGE);
    if let Some(labels) = labels {
        config = config.labels(labels);
    }
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut permit = rest.list_permit().await;
    let permit_ends = Instant::now() + LIST_PERMIT_TIMEOUT;
    loop {
        let event = if permit.is_some() {
            match timeout_at(permit_ends, events.next()).await {
                Ok(event) => event,
                Err(_) => {
                    permit = None;
                    continue;
                }
            }
        } else {
            events.next().await
        };
        if !matches!(event, Some(Ok(Event::Init | Event::InitApply(_)))) {
            permit = None;
        }
        match event {
            Some(Ok(event)) => drop(on_event(event)),
            Some(Err(error)) if is_final(&error) => return,
            Some(Err(error)) => tracing::debug!(error = chain(&error), kind, "watch failed; trying again"),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::guarded::omitted;

    #[test]
    fn only_a_kind_that_is_not_served_ends_a_watch() {
        let status = |code: u16, name: &str| {
            let status = serde_json::json!({"status": "Failure", "code": code, "details": {"name": name}});
            kube::Error::Api(serde_json::from_value(status).unwrap())
        };
        for (code, name, unserved) in [(404, "", true), (404, "web", false), (403, "", false), (503, "", false)] {
            for error in [watcher::Error::InitialListFailed, watcher::Error::WatchStartFailed] {
                assert_eq!(is_unserved(&error(status(code, name))), unserved, "{code} {name}");
            }
            assert!(!is_unserved(&watcher::Error::WatchFailed(status(code, name))));
        }
    }

    #[test]
    fn an_object_is_read_when_its_turn_has_come() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
        let json = format!(
            r#"[{{"metadata":{{"name":"x","namespace":"n","uid":"u","resourceVersion":"7","labels":{{"a":"b"}}}}}},
                {{"metadata":{{"name":"deep"}},"data":{deep}}}]"#
        );
        let list: Vec<Document> = serde_json::from_str(&json).unwrap();
        let meta = list[0].meta();
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("x"), Some("n")));
        assert_eq!((meta.uid.as_deref(), meta.resource_version.as_deref()), (Some("u"), Some("7")));
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
        let object = list[0].read(&resource).unwrap();
        assert_eq!((&object["apiVersion"], &object["kind"]), (&"v1".into(), &"ConfigMap".into()));
        assert_eq!(object["metadata"]["labels"]["a"], "b");
        assert!(
            omitted(&list[1].read(&resource).unwrap()).is_some_and(|problem| problem.starts_with("data is nested"))
        );
    }
}
