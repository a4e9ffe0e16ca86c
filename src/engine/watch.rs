//! Watches: list, then follow, for ever.

use std::borrow::Cow;
use std::fmt::Debug;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::{ApiResource, DynamicResourceScope};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_kind};
use kube::{Client, Resource};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::machinery::error::chain;
use crate::runtime::guarded::{PAGE, read_any};

/// An object of any kind, as JSON; what of it cannot be read is left out, and said so.
#[derive(Clone, Debug)]
pub struct Document {
    /// The object; without `apiVersion` and `kind` when it came out of a list.
    pub value: Value,
    // What the watcher itself looks at.
    meta: ObjectMeta,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // One object that is nested too deep must not fail the list that it is in.
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let value = read_any(json.get()).map_err(D::Error::custom)?;
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let meta = ObjectMeta {
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { value, meta })
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

/// What a watch tells.
#[derive(Debug)]
pub enum News<T> {
    /// A list begins.
    Begin,
    /// An object of the list.
    Listed(T),
    /// The list is complete: what was not in it is not there.
    Complete,
    /// An object is there, or changed.
    Changed(T),
    /// An object is gone.
    Gone(T),
}

/// Follows objects as JSON. `apiVersion` and `kind` are always there.
pub async fn follow(
    client: Client,
    resource: ApiResource,
    namespace: Option<&str>,
    labels: Option<&str>,
    mut tell: impl FnMut(News<Value>) + Send,
) {
    let api: Api<Document> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let complete = |document: Document| {
        let mut value = document.value;
        if let Some(map) = value.as_object_mut() {
            map.insert("apiVersion".to_owned(), Value::String(resource.api_version.clone()));
            map.insert("kind".to_owned(), Value::String(resource.kind.clone()));
        }
        value
    };
    follow_as(api, labels, &resource.kind, |news| {
        tell(match news {
            News::Begin => News::Begin,
            News::Listed(document) => News::Listed(complete(document)),
            News::Complete => News::Complete,
            News::Changed(document) => News::Changed(complete(document)),
            News::Gone(document) => News::Gone(complete(document)),
        });
    })
    .await;
}

/// Follows objects as some type.
pub async fn follow_as<K>(api: Api<K>, labels: Option<&str>, what: &str, mut tell: impl FnMut(News<K>) + Send)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut config = watcher::Config::default().page_size(PAGE);
    if let Some(labels) = labels {
        config = config.labels(labels);
    }
    let mut events = watch_kind(api, config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => tell(News::Begin),
            Ok(Event::InitApply(object)) => tell(News::Listed(object)),
            Ok(Event::InitDone) => tell(News::Complete),
            Ok(Event::Apply(object)) => tell(News::Changed(object)),
            Ok(Event::Delete(object)) => tell(News::Gone(object)),
            Err(error) => tracing::debug!(error = chain(&error), kind = what, "watch failed; trying again"),
        }
    }
}
