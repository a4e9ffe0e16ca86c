//! What happens in planes, told to those who subscribe.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use kube::Resource;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::utils::Backoff;
use parking_lot::RwLock;
use tokio::sync::mpsc;

use super::{InstanceKey, Planes};

/// What happened to an object of a plane.
#[derive(Clone, Copy, Debug)]
pub struct PlaneEvent<'a> {
    /// The plane's instance.
    pub instance: &'a InstanceKey,
    /// The kind.
    pub resource: &'a ApiResource,
    /// The object as it is now, or was last.
    pub object: &'a DynamicObject,
    /// As it was before.
    pub before: Option<&'a DynamicObject>,
    /// Whether it is gone.
    pub deleted: bool,
}

impl PlaneEvent<'_> {
    /// Whether it happened to an object of this kind.
    #[must_use]
    pub fn is_of<K: Resource<DynamicType = ()>>(&self) -> bool {
        self.resource.kind == K::kind(&()) && self.resource.group == K::group(&())
    }

    /// Whether what `facts` tells of the object has changed, or the object has come or gone.
    pub fn changes<T: PartialEq>(&self, facts: impl Fn(&DynamicObject) -> T) -> bool {
        self.deleted || self.before.is_none_or(|before| facts(before) != facts(self.object))
    }
}

type Subscriber = Box<dyn Fn(&PlaneEvent<'_>) + Send + Sync>;

/// Who is told what happens in planes.
#[derive(Clone, Default)]
pub struct Subscribers(Arc<RwLock<Vec<Subscriber>>>);

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscribers")
    }
}

impl Subscribers {
    /// Tells everybody of an event.
    pub fn notify(&self, event: &PlaneEvent<'_>) {
        self.0.read().iter().for_each(|subscriber| subscriber(event));
    }

    fn add(&self, subscriber: Subscriber) {
        self.0.write().push(subscriber);
    }
}

impl Planes {
    /// Maps what happens to cached objects of all planes to what is to be reconciled.
    ///
    /// Whoever subscribes before it reconciles misses nothing: what was told before is in the cache by then.
    pub fn subscribe<T, M>(&self, map: M) -> impl Stream<Item = T> + Send + 'static + use<T, M>
    where
        M: Fn(&PlaneEvent<'_>) -> Vec<T> + Send + Sync + 'static,
        T: Send + 'static,
    {
        // References are small and who reads them keeps one of each, so nothing is gained by making a watch wait.
        let (sender, receiver) = mpsc::unbounded_channel();
        self.subscribers.add(Box::new(move |event| {
            for item in map(event) {
                // A subscriber that is gone wants nothing any more.
                let _ = sender.send(item);
            }
        }));
        futures::stream::unfold(
            receiver,
            |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) },
        )
    }
}

/// Between attempts of a watch: a plane that restarts, or gets its definitions a moment later, must be seen soon.
#[derive(Debug, Default)]
pub struct PromptBackoff {
    attempts: u32,
}

impl Iterator for PromptBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = crate::runtime::backoff::delay(self.attempts, rand::random());
        self.attempts += 1;
        Some(delay.min(Duration::from_secs(3)))
    }
}

impl Backoff for PromptBackoff {
    fn reset(&mut self) {
        self.attempts = 0;
    }
}
