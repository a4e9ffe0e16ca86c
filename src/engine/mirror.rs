//! What is known of a kind, kept in step with a watch: what was listed replaces what was known.

use std::collections::HashSet;
use std::hash::Hash;

use kube::runtime::watcher::Event;

/// What is known of the objects of a kind.
pub trait Mirror: Send {
    /// An object, as the watch brings it.
    type Object;
    /// What an object is known by.
    type Key: Eq + Hash + Send;

    /// What an object is known by; nothing for those that do not matter.
    fn key(&self, object: &Self::Object) -> Option<Self::Key>;

    /// Everything that is known.
    fn known(&self) -> Vec<Self::Key>;

    /// An object is there, or changed.
    fn apply(&mut self, key: Self::Key, object: Self::Object, source: Source);

    /// An object is gone; with its last state, if the watch reported it.
    fn delete(&mut self, key: &Self::Key, last: Option<&Self::Object>);

    /// Everything that is there is known.
    fn synced(&mut self) {}
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A list. It may hold older versions than are known: the cluster may have been restored.
    List,
    /// A watch, after the list.
    Watch,
}

impl Source {
    /// Whether it is a list.
    #[must_use]
    pub fn is_list(self) -> bool {
        self == Self::List
    }
}

/// A mirror and what of it the list that is under way has not named yet.
#[derive(Debug)]
pub struct Mirrored<M: Mirror> {
    mirror: M,
    // What came into being since the list was asked for is not in it, and not gone either.
    unlisted: HashSet<M::Key>,
}

impl<M: Mirror> Mirrored<M> {
    /// Keeps a mirror in step with a watch.
    pub fn new(mirror: M) -> Self {
        Self { mirror, unlisted: HashSet::new() }
    }

    /// Takes in an event.
    pub fn apply(&mut self, event: Event<M::Object>) {
        match event {
            Event::Init => self.unlisted = self.mirror.known().into_iter().collect(),
            Event::InitApply(object) => {
                if let Some(key) = self.mirror.key(&object) {
                    self.unlisted.remove(&key);
                    self.mirror.apply(key, object, Source::List);
                }
            }
            Event::InitDone => {
                for key in std::mem::take(&mut self.unlisted) {
                    self.mirror.delete(&key, None);
                }
                self.mirror.synced();
            }
            Event::Apply(object) => {
                if let Some(key) = self.mirror.key(&object) {
                    self.mirror.apply(key, object, Source::Watch);
                }
            }
            Event::Delete(object) => {
                if let Some(key) = self.mirror.key(&object) {
                    self.mirror.delete(&key, Some(&object));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers; odd ones do not matter.
    #[derive(Default)]
    struct Numbers {
        known: Vec<u32>,
        log: Vec<String>,
    }

    impl Mirror for Numbers {
        type Object = u32;
        type Key = u32;

        fn key(&self, object: &u32) -> Option<u32> {
            object.is_multiple_of(2).then_some(*object)
        }

        fn known(&self) -> Vec<u32> {
            self.known.clone()
        }

        fn apply(&mut self, key: u32, _: u32, source: Source) {
            self.known.push(key);
            self.log.push(format!("{source:?} {key}"));
        }

        fn delete(&mut self, key: &u32, last: Option<&u32>) {
            self.known.retain(|known| known != key);
            self.log.push(format!("gone {key} {}", last.is_some()));
        }

        fn synced(&mut self) {
            self.log.push("synced".to_owned());
        }
    }

    #[test]
    fn what_was_listed_replaces_what_was_known() {
        use Event::{Apply, Delete, Init, InitApply, InitDone};
        for (name, events, log) in [
            ("a first list", vec![Init, InitApply(2), InitApply(3), InitDone], vec!["List 2", "synced"]),
            ("changes", vec![Apply(4), Apply(5), Delete(4), Delete(5)], vec!["Watch 4", "gone 4 true"]),
            (
                "another list",
                vec![Init, InitApply(2), InitDone, Apply(4), Init, InitApply(4), InitDone],
                vec!["List 2", "synced", "Watch 4", "List 4", "gone 2 false", "synced"],
            ),
            (
                "a list that begins anew",
                vec![Init, InitApply(2), Init, InitApply(4), InitDone],
                vec!["List 2", "List 4", "gone 2 false", "synced"],
            ),
        ] {
            let mut mirrored = Mirrored::new(Numbers::default());
            events.into_iter().for_each(|event| mirrored.apply(event));
            assert_eq!(mirrored.mirror.log, log, "{name}");
        }
    }

    #[test]
    fn what_came_since_the_list_was_asked_for_stays() {
        let mut mirrored = Mirrored::new(Numbers { known: vec![2, 4], log: Vec::new() });
        mirrored.apply(Event::Init);
        // The answer to a write, for example.
        mirrored.mirror.known.push(6);
        mirrored.apply(Event::InitApply(2));
        mirrored.apply(Event::InitDone);
        assert_eq!(mirrored.mirror.log, ["List 2", "gone 4 false", "synced"]);
        assert!(mirrored.mirror.known.contains(&6));
    }
}
