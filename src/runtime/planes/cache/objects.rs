//! The objects of one kind, as a watch tells of them. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use crate::machinery::object_version::is_same_version;

/// How long an object that was written stands in for what the watch says. The watch is behind by far less; should it
/// have missed that the object was deleted meanwhile, this ends the mistake.
const WRITE_TTL: Duration = Duration::from_secs(10);

/// Namespace and name.
type Place = (Option<String>, String);

/// What happened to an object.
#[derive(Clone, Debug)]
pub struct ObjectChange {
    /// As it is now, or was last.
    pub object: Arc<DynamicObject>,
    /// As it was before.
    pub before: Option<Arc<DynamicObject>>,
    /// Whether it is gone.
    pub deleted: bool,
}

/// The objects of one kind.
#[derive(Debug, Default)]
pub struct Objects {
    known: HashMap<Place, Arc<DynamicObject>>,
    /// What a list that is under way has told so far.
    listing: HashMap<Place, Arc<DynamicObject>>,
    /// What was written, and the watch has not told yet.
    written: HashMap<Place, (Arc<DynamicObject>, Instant)>,
}

impl Objects {
    /// Applies an event of the watch, and tells what has changed. A list tells also of what is gone since the one before.
    pub fn apply_event(&mut self, event: Event<DynamicObject>) -> Vec<ObjectChange> {
        match event {
            Event::Init => self.listing = HashMap::new(),
            Event::InitApply(object) => {
                self.listing.insert(place(&object), Arc::new(object));
            }
            Event::InitDone => return self.listed(),
            Event::Apply(object) => {
                let (place, object) = (place(&object), Arc::new(object));
                self.caught_up(&place, &object);
                let before = self.known.insert(place, object.clone());
                return vec![ObjectChange { object, before, deleted: false }];
            }
            Event::Delete(object) => {
                let place = place(&object);
                self.caught_up(&place, &object);
                let before = self.known.remove(&place);
                return vec![ObjectChange { object: Arc::new(object), before, deleted: true }];
            }
        }
        Vec::new()
    }

    fn listed(&mut self) -> Vec<ObjectChange> {
        let listed = std::mem::take(&mut self.listing);
        let mut before = std::mem::replace(&mut self.known, listed);
        let mut changes = Vec::new();
        for (place, object) in &self.known {
            let old = before.remove(place);
            if self.written.get(place).is_some_and(|(written, _)| !is_newer(written, object)) {
                self.written.remove(place);
            }
            if old.as_ref().is_none_or(|old| !is_same_version(old.as_ref(), object.as_ref())) {
                changes.push(ObjectChange { object: object.clone(), before: old, deleted: false });
            }
        }
        changes.extend(before.into_values().map(|object| ObjectChange {
            before: Some(object.clone()),
            object,
            deleted: true,
        }));
        changes
    }

    /// Records an object as it was written, for as long as the watch is behind.
    pub fn record(&mut self, object: DynamicObject, now: Instant) {
        self.written.retain(|_, (_, at)| now.duration_since(*at) < WRITE_TTL);
        let place = place(&object);
        if self.known.get(&place).is_none_or(|known| is_newer(&object, known)) {
            self.written.insert(place, (Arc::new(object), now));
        }
    }

    /// An object.
    #[must_use]
    pub fn get(&self, namespace: Option<&str>, name: &str, now: Instant) -> Option<Arc<DynamicObject>> {
        let place = (namespace.map(str::to_owned), name.to_owned());
        match self.written.get(&place) {
            Some((object, at)) if now.duration_since(*at) < WRITE_TTL => Some(object.clone()),
            _ => self.known.get(&place).cloned(),
        }
    }

    /// All objects.
    pub fn all(&self, now: Instant) -> impl Iterator<Item = &Arc<DynamicObject>> {
        let written = move |place: &Place| {
            let found = self.written.get(place);
            found.filter(|(_, at)| now.duration_since(*at) < WRITE_TTL).map(|(object, _)| object)
        };
        let known = self.known.iter().map(move |(place, object)| written(place).unwrap_or(object));
        let new = self.written.keys().filter(|place| !self.known.contains_key(*place)).filter_map(written);
        known.chain(new)
    }

    /// Drops what was written once the watch has told of it, or of something later.
    fn caught_up(&mut self, place: &Place, told: &DynamicObject) {
        if self.written.get(place).is_some_and(|(written, _)| !is_newer(written, told)) {
            self.written.remove(place);
        }
    }
}

fn place(object: &DynamicObject) -> Place {
    (object.namespace(), object.name_any())
}

/// Whether `one` was written after `other`. Resource versions of one kind in one API server count upwards; where they
/// should not be numbers, whatever differs is taken for newer, and [`WRITE_TTL`] bounds the mistake.
fn is_newer(one: &DynamicObject, other: &DynamicObject) -> bool {
    let number = |object: &DynamicObject| object.meta().resource_version.as_ref()?.parse::<u64>().ok();
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one > other,
        _ => one.meta().resource_version != other.meta().resource_version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, version: &str) -> DynamicObject {
        let metadata = json!({"name": name, "namespace": "team", "uid": name, "resourceVersion": version});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn listed(objects: &mut Objects, items: &[(&str, &str)]) -> Vec<String> {
        objects.apply_event(Event::Init);
        for (name, version) in items {
            assert!(
                objects.apply_event(Event::InitApply(object(name, version))).is_empty(),
                "not before the list is complete"
            );
        }
        told(objects.apply_event(Event::InitDone))
    }

    fn told(changes: Vec<ObjectChange>) -> Vec<String> {
        let sign = |change: &ObjectChange| match (change.deleted, &change.before) {
            (true, _) => '-',
            (false, None) => '+',
            (false, Some(_)) => '~',
        };
        let mut told: Vec<String> = changes.iter().map(|c| format!("{}{}", sign(c), c.object.name_any())).collect();
        told.sort();
        told
    }

    fn at(objects: &Objects, name: &str, now: Instant) -> Option<String> {
        objects.get(Some("team"), name, now).and_then(|object| object.resource_version())
    }

    #[test]
    fn a_list_tells_what_is_new_changed_and_gone() {
        let mut objects = Objects::default();
        assert_eq!(listed(&mut objects, &[("a", "1"), ("b", "2"), ("c", "3")]), ["+a", "+b", "+c"]);
        assert_eq!(listed(&mut objects, &[("a", "1"), ("b", "9"), ("d", "7")]), ["+d", "-c", "~b"]);
        assert!(listed(&mut objects, &[("a", "1"), ("b", "9"), ("d", "7")]).is_empty(), "nothing happened");
    }

    #[test]
    fn what_was_written_is_read_until_the_watch_has_caught_up() {
        let (mut objects, now) = (Objects::default(), Instant::now());
        listed(&mut objects, &[("a", "10")]);
        objects.record(object("a", "30"), now);
        objects.record(object("new", "31"), now);
        objects.apply_event(Event::Apply(object("a", "20")));
        assert_eq!(at(&objects, "a", now).as_deref(), Some("30"), "an older event comes in between");
        assert_eq!(at(&objects, "new", now).as_deref(), Some("31"));
        assert_eq!(objects.all(now).count(), 2);
        objects.apply_event(Event::Apply(object("a", "40")));
        assert_eq!(at(&objects, "a", now).as_deref(), Some("40"));
        objects.apply_event(Event::Delete(object("new", "41")));
        assert_eq!(at(&objects, "new", now), None, "deleted after it was written");
        assert_eq!(objects.all(now).count(), 1);
    }

    #[test]
    fn a_deletion_from_before_does_not_hide_what_was_made_anew() {
        let (mut objects, now) = (Objects::default(), Instant::now());
        listed(&mut objects, &[("a", "10")]);
        objects.record(object("a", "30"), now);
        objects.apply_event(Event::Delete(object("a", "20")));
        assert_eq!(at(&objects, "a", now).as_deref(), Some("30"));
    }

    #[test]
    fn a_write_that_no_watch_ever_tells_of_is_forgotten() {
        let (mut objects, now) = (Objects::default(), Instant::now());
        objects.record(object("a", "30"), now);
        listed(&mut objects, &[]);
        assert_eq!(at(&objects, "a", now).as_deref(), Some("30"), "the list may be older");
        let later = now + WRITE_TTL;
        assert_eq!(at(&objects, "a", later), None);
        assert_eq!(objects.all(later).count(), 0);
    }

    #[test]
    fn the_answer_to_a_write_that_the_watch_was_faster_with_changes_nothing() {
        let (mut objects, now) = (Objects::default(), Instant::now());
        listed(&mut objects, &[]);
        objects.apply_event(Event::Apply(object("a", "30")));
        objects.apply_event(Event::Apply(object("a", "35")));
        objects.record(object("a", "30"), now);
        assert_eq!(at(&objects, "a", now).as_deref(), Some("35"));
    }
}
