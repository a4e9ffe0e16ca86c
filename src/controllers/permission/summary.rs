//! A permission summarized for columns: kubectl prints no more than the first match of a list. Pure.

use super::plan;
use crate::api::permission::{PermissionBinding, PermissionBindingStatus, Subject, SubjectKind};

/// How many entries of a list are named.
const MAX_NAMES: usize = 2;

/// Puts the summary into a status.
pub fn summarize(binding: &PermissionBinding, status: &mut PermissionBindingStatus) {
    status.subjects = Some(render_some(binding.spec.subjects.iter().map(subject).collect()));
    status.namespaces =
        Some(if plan::everywhere(binding) { "all".to_owned() } else { render_some(plan::namespaces(binding)) });
}

fn subject(subject: &Subject) -> String {
    let name = &subject.name;
    match subject.kind {
        SubjectKind::User => format!("User {name}"),
        SubjectKind::Group => format!("Group {name}"),
        SubjectKind::ServiceAccount => {
            format!("ServiceAccount {}/{name}", subject.namespace.as_deref().unwrap_or_default())
        }
    }
}

fn render_some(all: Vec<String>) -> String {
    let named = all.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(MAX_NAMES) {
        0 => named,
        more => format!("{named} +{more}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn render(subjects: Value, namespaces: Value) -> (String, String) {
        let binding: PermissionBinding = serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "PermissionBinding", "metadata": {"namespace": "team", "name": "b"},
            "spec": {"subjects": subjects, "role": "Viewer", "scope": {"namespaces": namespaces}},
        }))
        .unwrap();
        let mut status = PermissionBindingStatus::default();
        summarize(&binding, &mut status);
        (status.subjects.unwrap(), status.namespaces.unwrap())
    }

    #[test]
    fn lists_become_few_words() {
        let group = json!({"kind": "Group", "name": "team-hello"});
        let ann = json!({"kind": "User", "name": "ann"});
        let bot = json!({"kind": "ServiceAccount", "name": "bot", "namespace": "ci"});
        for (subjects, namespaces, words) in [
            (json!([group]), json!(["hello"]), ("Group team-hello", "hello")),
            (json!([group, ann]), json!(["b", "a", "b"]), ("Group team-hello, User ann", "a, b")),
            (
                json!([bot, group, ann, ann]),
                json!(["a", "b", "c"]),
                ("ServiceAccount ci/bot, Group team-hello +2", "a, b +1"),
            ),
            (json!([ann]), json!(["*"]), ("User ann", "all")),
        ] {
            let (who, place) = render(subjects, namespaces);
            assert_eq!((who.as_str(), place.as_str()), words);
        }
    }
}
