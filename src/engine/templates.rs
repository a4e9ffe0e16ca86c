//! Templates of one kind, kept in step with a watch.

use std::sync::Arc;

use serde_json::Value;

use super::Engine;
use super::key::{Key, KindKey, ObjectKey};
use super::mirror::{Mirror, Source};
use super::model::{Template, identity};
use crate::runtime::guarded::omitted;

/// Templates of one kind.
pub(super) struct Templates {
    pub(super) engine: Arc<Engine>,
    pub(super) kind: Arc<KindKey>,
}

impl Mirror for Templates {
    type Object = Value;
    type Key = Key;

    fn key(&self, object: &Value) -> Option<Key> {
        Some(ObjectKey::of(&self.kind, object))
    }

    fn known(&self) -> Vec<Key> {
        self.engine.index().template_keys(&self.kind)
    }

    fn apply(&mut self, key: Key, object: Value, source: Source) {
        match omitted(&object) {
            None => {
                let template = Template::of(object);
                self.engine.change(|index| index.put_template(key, template, source.is_list()));
            }
            Some(problem) => {
                tracing::warn!(object = %key, problem, "template cannot be read; what is in members of it stays");
                self.engine.count_unreadable(&self.kind.kind);
                self.engine.index().mark_template_unreadable(key);
            }
        }
    }

    fn delete(&mut self, key: &Key, last: Option<&Value>) {
        let deleted = last.map(identity);
        self.engine.change(|index| index.remove_template(key, deleted));
    }

    fn synced(&mut self) {
        self.engine.change(|index| index.kind_synced(&self.kind));
    }
}
