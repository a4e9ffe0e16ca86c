//! What a kind means: its replicas, its health, which part of its status matters, how the statuses of several clusters
//! make one, and which fields belong to the cluster that an object lives in. Pure.
//!
//! The rules are those of Karmada 1.18's default interpreter, so that people and tools read the same statuses under
//! both profiles. Kinds that are not known here are carried as they are.

mod aggregate;
mod health;
mod kind;
mod prune;
mod reflect;
mod replicas;
mod retain;

pub use aggregate::{StatusItem, aggregate};
pub use health::{Health, has_health_rule, health};
pub use kind::{Kind, pod_spec_pointer};
pub use prune::{prune, without_state};
pub use reflect::{TEMPLATE_GENERATION_ANNOTATION, reflect};
pub use replicas::{completions, replicas, set_completions, set_replicas};
pub use retain::{RETAIN_REPLICAS_LABEL, retain};

use serde_json::Value;

fn int(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
