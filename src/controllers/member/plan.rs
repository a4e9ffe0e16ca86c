//! What a membership wants to exist, in the member and in the plane. Pure.

mod identity;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

pub use self::identity::{
    IMPERSONATOR, INSTANCE_ANNOTATION, IdentityObjects, MEMBER_LABEL, MEMBER_NAMESPACE_LABEL, Membership, PlaneMark,
    Rights, USER_ANNOTATION_PREFIX, WORK_NAMESPACE_ANNOTATION, WORKS_ANNOTATION, identity, identity_name,
    impersonator_token_name, label_of, labels, user_annotation,
};
use crate::api::member::{MemberClusterJoin, TaintEffect, UnjoinPolicy};
use crate::controllers::stamp;
use crate::karmada::cluster::{ClusterSpec, NamespacedSecret, SyncMode};
use crate::karmada::{CLUSTER_NAMESPACE, SYSTEM_LABEL};
pub use crate::karmada::{FORCE_UNJOIN_ANNOTATION, UNJOIN_POLICY_ANNOTATION};

/// Annotation on a Cluster: the taints that came from the membership; all others are somebody else's.
pub const TAINTS_ANNOTATION: &str = "airdock.dev/taints";

/// Credentials that the plane gets for the member.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token of the plane's identity.
    pub account: Vec<u8>,
    /// Token of the impersonator.
    pub impersonator: Vec<u8>,
    /// CAs of the member's API server, PEM.
    pub cas: Vec<u8>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// Puts the tokens together once the member's token controller has filled both Secrets in. The plane trusts the
/// CA of the kubeconfig, by which the member was reached, and the one that the member names itself.
#[must_use]
pub fn tokens(account: &Secret, impersonator: &Secret, kubeconfig_ca: Option<&[u8]>) -> Option<Tokens> {
    let read = |secret: &Secret, key: &str| {
        secret.data.as_ref()?.get(key).map(|value| value.0.clone()).filter(|value| !value.is_empty())
    };
    let mut cas = kubeconfig_ca.map(<[u8]>::to_vec).unwrap_or_default();
    if let Some(own) = read(account, "ca.crt")
        && !contains_pem(&cas, &own)
    {
        if !cas.is_empty() && !cas.ends_with(b"\n") {
            cas.push(b'\n');
        }
        cas.extend(own);
    }
    Some(Tokens { account: read(account, "token")?, impersonator: read(impersonator, "token")?, cas })
}

fn contains_pem(bundle: &[u8], pem: &[u8]) -> bool {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).split_whitespace().collect::<String>();
    text(bundle).contains(&text(pem))
}

/// The two Secrets of a membership in the plane: the plane's identity, the impersonator.
#[must_use]
pub fn plane_secrets(join: &MemberClusterJoin, tokens: &Tokens) -> [Secret; 2] {
    let secret = |name: String, data: Vec<(&str, &[u8])>| Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(CLUSTER_NAMESPACE.to_owned()),
            labels: Some(labels(join)),
            ..ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.to_vec()))).collect()),
        ..Secret::default()
    };
    let [name, impersonator] = plane_secret_names(join);
    [
        secret(name, vec![("caBundle", &tokens.cas), ("token", &tokens.account)]),
        secret(impersonator, vec![("token", &tokens.impersonator)]),
    ]
}

/// Names of the two Secrets.
#[must_use]
pub fn plane_secret_names(join: &MemberClusterJoin) -> [String; 2] {
    let name = join.spec.cluster_name.clone();
    let impersonator = format!("{name}-impersonator");
    [name, impersonator]
}

/// The Cluster of a membership, over what the plane has of it now.
///
/// Taints are one list for all who set them, so those of others (conditions, policies) are carried over as they are;
/// `metadata.resourceVersion` then keeps a change of theirs from being lost.
#[must_use]
pub fn cluster(join: &MemberClusterJoin, id: &str, endpoint: &str, live: Option<&Value>) -> Value {
    let spec = &join.spec;
    let secret = |name: String| Some(NamespacedSecret { namespace: CLUSTER_NAMESPACE.to_owned(), name });
    let [name, impersonator] = plane_secret_names(join);
    let body = ClusterSpec {
        id: Some(id.to_owned()),
        sync_mode: SyncMode::Push,
        api_endpoint: Some(endpoint.to_owned()),
        secret_ref: secret(name),
        impersonator_secret_ref: secret(impersonator),
        provider: spec.provider.clone(),
        region: spec.region.clone(),
        zones: spec.zones.clone(),
        taints: Vec::new(),
    };
    let mut all_labels = spec.labels.clone();
    all_labels.extend(labels(join));
    // On the Cluster this label would make upstream's tools take it for one of Karmada's own objects.
    all_labels.remove(SYSTEM_LABEL);
    let mut annotations = BTreeMap::from([(UNJOIN_POLICY_ANNOTATION, unjoin_policy(join).to_owned())]);
    let own: Vec<Value> = spec
        .taints
        .iter()
        .map(|taint| {
            let TaintEffect::NoSchedule = taint.effect;
            let mut value = json!({"key": taint.key, "effect": "NoSchedule"});
            if let Some(given) = &taint.value {
                value["value"] = json!(given);
            }
            value
        })
        .collect();
    if !own.is_empty() {
        annotations.insert(TAINTS_ANNOTATION, own.iter().map(taint_key).collect::<Vec<_>>().join(","));
    }
    let mut wanted = json!({
        "metadata": {"name": spec.cluster_name, "labels": all_labels, "annotations": annotations},
        "spec": body,
    });
    wanted["metadata"]["annotations"][stamp::APPLIED_ANNOTATION] = json!(stamp::digest(&(&wanted, &own)));
    if let Some(taints) = merged_taints(&own, live) {
        wanted["spec"]["taints"] = Value::Array(taints);
        if let Some(version) = live.and_then(|live| live.pointer("/metadata/resourceVersion")) {
            wanted["metadata"]["resourceVersion"] = version.clone();
        }
    }
    wanted
}

/// The annotation's value for the policy.
#[must_use]
pub fn unjoin_policy(join: &MemberClusterJoin) -> &'static str {
    match join.spec.deletion.policy {
        UnjoinPolicy::Unjoin => "Unjoin",
        UnjoinPolicy::Orphan => "Orphan",
    }
}

/// The whole list of taints, when the membership has, or had, a say in it.
fn merged_taints(own: &[Value], live: Option<&Value>) -> Option<Vec<Value>> {
    let before = live
        .and_then(|live| live.get("metadata")?.get("annotations")?.get(TAINTS_ANNOTATION)?.as_str())
        .unwrap_or_default();
    if own.is_empty() && before.is_empty() {
        return None;
    }
    let own_keys: Vec<String> = own.iter().map(taint_key).collect();
    let was_ours = |taint: &Value| {
        let key = taint_key(taint);
        own_keys.contains(&key) || before.split(',').any(|known| known == key)
    };
    let others = live.and_then(|live| live.pointer("/spec/taints")?.as_array()).into_iter().flatten();
    Some(own.iter().chain(others.filter(|taint| !was_ours(taint))).cloned().collect())
}

fn taint_key(taint: &Value) -> String {
    let text = |field: &str| taint.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{}:{}", text("key"), text("effect"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MANAGED_BY_LABEL;
    use crate::runtime::planes::InstanceKey;
    use kube::ResourceExt;

    fn join(change: Value) -> MemberClusterJoin {
        let mut spec = json!({
            "instanceRef": {"name": "fleet"}, "clusterName": "one", "kubeconfigSecretRef": {"name": "s"},
        });
        for (key, given) in change.as_object().unwrap() {
            spec[key] = given.clone();
        }
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
            "metadata": {"namespace": "team", "name": "one", "uid": "3f0c"}, "spec": spec,
        }))
        .unwrap()
    }

    fn fleet() -> InstanceKey {
        InstanceKey { namespace: "team".into(), name: "fleet".into() }
    }

    fn membership<'a>(instance: &'a InstanceKey, mark: &'a PlaneMark) -> Membership<'a> {
        Membership { instance, mark: Some(mark) }
    }

    fn mark() -> PlaneMark {
        PlaneMark::Plane("plane-uid".into())
    }

    #[test]
    fn names_in_the_member_differ_between_memberships() {
        let one = join(json!({}));
        let mut other = one.clone();
        other.metadata.uid = Some("77aa".into());
        assert_ne!(identity_name(&one), identity_name(&other));
        let long = join(json!({"clusterName": "c".repeat(48)}));
        assert!(impersonator_token_name(&long).len() <= 253);
    }

    #[test]
    fn the_identity_is_complete_and_labelled() {
        let IdentityObjects { account, role, binding, token, impersonator_token } =
            identity(&join(json!({})), &membership(&fleet(), &mark()), Rights::Full);
        let name = identity_name(&join(json!({})));
        for labels in [account.labels(), role.labels(), binding.labels(), token.labels(), impersonator_token.labels()] {
            assert_eq!(labels[MANAGED_BY_LABEL], "airdock");
            assert_eq!(labels[MEMBER_LABEL], "one");
            assert_eq!(labels[MEMBER_NAMESPACE_LABEL], "team");
        }
        assert_eq!(binding.role_ref.name, name);
        assert_eq!(binding.subjects.unwrap()[0].name, name);
        assert_eq!(token.annotations()["kubernetes.io/service-account.name"], name);
        assert_eq!(impersonator_token.annotations()["kubernetes.io/service-account.name"], IMPERSONATOR);
        assert_eq!(role.rules.unwrap()[0].verbs, ["*"]);
        assert_eq!(account.annotations()["airdock.dev/plane"], "plane-uid", "the plane's objects are found by it");
    }

    #[test]
    fn without_delete_nothing_can_be_deleted() {
        let role = identity(&join(json!({})), &membership(&fleet(), &mark()), Rights::WithoutDelete).role;
        for rule in role.rules.unwrap() {
            assert!(!rule.verbs.iter().any(|verb| verb == "*" || verb.starts_with("delete")), "{rule:?}");
        }
    }

    #[test]
    fn the_cluster_carries_the_spec() {
        let join = join(json!({
            "provider": "aws", "region": "eu", "zones": ["a", "b"], "labels": {"env": "prod"},
            "deletion": {"policy": "Orphan"},
        }));
        let wanted = cluster(&join, "id-1", "https://10.0.0.1:6443", None);
        assert_eq!(
            wanted["spec"],
            json!({
                "id": "id-1", "syncMode": "Push", "apiEndpoint": "https://10.0.0.1:6443",
                "secretRef": {"namespace": "karmada-cluster", "name": "one"},
                "impersonatorSecretRef": {"namespace": "karmada-cluster", "name": "one-impersonator"},
                "provider": "aws", "region": "eu", "zones": ["a", "b"],
            }),
            "no taints are claimed where none are given"
        );
        assert_eq!(
            wanted["metadata"]["labels"],
            json!({"env": "prod", MANAGED_BY_LABEL: "airdock", MEMBER_LABEL: "one", MEMBER_NAMESPACE_LABEL: "team"})
        );
        assert_eq!(wanted["metadata"]["annotations"][UNJOIN_POLICY_ANNOTATION], "Orphan");
    }

    #[test]
    fn taints_of_others_stay() {
        let theirs =
            json!({"key": "cluster.karmada.io/not-ready", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"});
        let ours = json!({"key": "dedicated", "effect": "NoSchedule", "value": "x"});
        let live = |annotation: &str, taints: Value| json!({"metadata": {"resourceVersion": "7", "annotations": {TAINTS_ANNOTATION: annotation}}, "spec": {"taints": taints}});
        let with = join(json!({"taints": [{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]}));
        let without = join(json!({}));
        let of = |join: &MemberClusterJoin, live: Value| cluster(join, "i", "e", Some(&live))["spec"]["taints"].clone();

        assert_eq!(of(&with, live("", json!([theirs]))), json!([ours, theirs]), "added beside theirs");
        assert_eq!(of(&with, live("dedicated:NoSchedule", json!([ours, theirs]))), json!([ours, theirs]), "unchanged");
        assert_eq!(of(&without, live("dedicated:NoSchedule", json!([ours, theirs]))), json!([theirs]), "ours removed");
        assert_eq!(of(&without, live("", json!([theirs]))), Value::Null, "never ours: not touched");
        let wanted = cluster(&with, "i", "e", Some(&live("", json!([theirs]))));
        assert_eq!(wanted["metadata"]["resourceVersion"], "7", "a concurrent change of theirs is a conflict");
    }

    #[test]
    fn a_removed_label_changes_what_is_wanted() {
        let stamp = |labels: Value| {
            cluster(&join(json!({"labels": labels})), "i", "e", None)["metadata"]["annotations"]
                [stamp::APPLIED_ANNOTATION]
                .clone()
        };
        assert_ne!(stamp(json!({"env": "prod"})), stamp(json!({})));
    }

    #[test]
    fn tokens_are_there_when_both_are() {
        let secret = |data: Value| -> Secret {
            serde_json::from_value(json!({"metadata": {"name": "s"}, "data": data})).unwrap()
        };
        // "t", "CA", "i" in base64.
        let account = secret(json!({"token": "dA==", "ca.crt": "Q0E="}));
        let impersonator = secret(json!({"token": "aQ=="}));
        let empty = secret(json!({}));
        assert!(tokens(&account, &empty, None).is_none() && tokens(&empty, &impersonator, None).is_none());
        let bundle = |ca: Option<&[u8]>| tokens(&account, &impersonator, ca).unwrap().cas;
        assert_eq!(bundle(None), b"CA");
        assert_eq!(bundle(Some(b"CA\n")), b"CA\n", "the same CA once");
        assert_eq!(bundle(Some(b"LB")), b"LB\nCA", "both, where they differ");
    }

    #[test]
    fn long_names_fit_a_label() {
        let (a, b) = (format!("{}a", "x".repeat(100)), format!("{}b", "x".repeat(100)));
        assert!(label_of(&a).len() <= 63 && label_of(&a) != label_of(&b));
        assert_eq!(label_of("short"), "short");
    }
}
