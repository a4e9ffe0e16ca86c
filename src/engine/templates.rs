//! Templates of one kind, kept in step with a watch.

use std::sync::Arc;

use serde_json::Value;

use super::Engine;
use super::index::{Index, Requeues};
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
        self.engine.put_template(&key, object, source.is_list());
    }

    fn delete(&mut self, key: &Key, last: Option<&Value>) {
        let deleted = last.map(identity);
        self.engine.change(|index| index.remove_template(key, deleted));
    }

    fn synced(&mut self) {
        self.engine.change(|index| index.kind_synced(&self.kind));
    }
}

impl Engine {
    /// Takes in an object of a template, as a watch or the answer to a write has it. `relist` accepts an older version: the
    /// plane may have been restored.
    pub(super) fn put_template(&self, key: &Key, object: Value, relist: bool) {
        let mut unreadable = None;
        self.change(|index| {
            put(index, key, object, relist).unwrap_or_else(|problem| {
                unreadable = Some(problem);
                Requeues::default()
            })
        });
        if let Some(problem) = unreadable {
            tracing::warn!(object = %key, problem, "template cannot be read; what is in members of it stays");
            self.count_unreadable(&key.kind.kind);
        }
    }
}

/// Puts an object of a template into the index, or tells why it cannot be read: then the template stays what it was when
/// it was read last. Without what was left out of it, it is not what its author asks for. Pure.
fn put(index: &mut Index, key: &Key, object: Value, relist: bool) -> Result<Requeues, String> {
    if let Some(problem) = omitted(&object) {
        index.mark_template_unreadable(key.clone());
        return Err(problem.to_owned());
    }
    Ok(index.put_template(key.clone(), Template::of(object), relist))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::guarded::read_any;

    /// A template as the API server sends it, with a spec that is nested so deep.
    fn sent(version: u64, levels: usize) -> Value {
        let spec = format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let metadata = format!(r#"{{"name":"x","namespace":"shop","uid":"t","resourceVersion":"{version}"}}"#);
        read_any(&format!(r#"{{"apiVersion":"g/v1","kind":"K","metadata":{metadata},"spec":{spec}}}"#)).unwrap()
    }

    #[test]
    fn a_template_that_cannot_be_read_stays_what_it_was() {
        let key = ObjectKey::of(&KindKey::new("g/v1", "K"), &sent(1, 1));
        let mut index = Index::default();
        put(&mut index, &key, sent(1, 1), false).unwrap();
        let before = index.template(&key).unwrap().clone();
        for relist in [false, true] {
            let problem = put(&mut index, &key, sent(2, 200), relist).unwrap_err();
            assert!(problem.starts_with("spec is nested 201 levels deep"), "{problem}");
            assert_eq!(index.template(&key), Some(&before));
            assert!(!index.is_template_unreadable(&key));
        }
        put(&mut index, &key, sent(3, 2), false).unwrap();
        assert_ne!(index.template(&key), Some(&before));

        let mut index = Index::default();
        put(&mut index, &key, sent(1, 200), false).unwrap_err();
        assert!(index.template(&key).is_none() && index.is_template_unreadable(&key));
    }
}
