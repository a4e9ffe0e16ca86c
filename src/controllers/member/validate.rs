//! What the API server's schema cannot check of a membership. Pure.

use kube::ResourceExt;

use super::error::Error;
use crate::api::member::{MemberClusterJoin, MemberClusterJoinSpec};
use crate::api::{GROUP, MANAGED_BY_LABEL};
use crate::application::model::FieldError;
use crate::machinery::names::{is_label_value, is_qualified_name};
pub use crate::runtime::hosts::LocalEndpoints;
use crate::runtime::hosts::refused_host;
use crate::runtime::planes::InstanceKey;

/// Checks the fields that end up in the plane.
pub fn spec(spec: &MemberClusterJoinSpec, local: LocalEndpoints) -> Result<(), Error> {
    let invalid = |field: String, value: &str, remedy: &str| Err(FieldError::of_value(field, value, remedy).into());
    const VALUE: &str = "is not a label value, as which it is compared: use at most 63 letters, digits, '-', '_' and '.', the first and last a letter or digit";
    if spec.cluster_name.ends_with("-impersonator") {
        // The Secret with another cluster's impersonator may have this name.
        return invalid(
            "spec.clusterName".to_owned(),
            &spec.cluster_name,
            "ends with \"-impersonator\": choose another name",
        );
    }
    for (field, value) in [("spec.provider", &spec.provider), ("spec.region", &spec.region)] {
        if let Some(value) = value
            && !is_label_value(value)
        {
            return invalid(field.to_owned(), value, VALUE);
        }
    }
    for (index, zone) in spec.zones.iter().enumerate() {
        if zone.is_empty() || !is_label_value(zone) {
            return invalid(format!("spec.zones[{index}]"), zone, VALUE);
        }
    }
    for (key, value) in &spec.labels {
        if key.as_str() == MANAGED_BY_LABEL || prefix(key).is_some_and(|prefix| prefix == GROUP) {
            return invalid("spec.labels".to_owned(), key, "is set by Airdock itself: remove it");
        }
        if !is_qualified_name(key) {
            return invalid(
                "spec.labels".to_owned(),
                key,
                "is not a label key: use [prefix/]name as in example.com/tier",
            );
        }
        if !is_label_value(value) {
            return invalid(format!("spec.labels[{key}]"), value, VALUE);
        }
    }
    for (index, taint) in spec.taints.iter().enumerate() {
        if !is_qualified_name(&taint.key) {
            return invalid(format!("spec.taints[{index}].key"), &taint.key, "is not a taint key: use [prefix/]name");
        }
        if let Some(value) = &taint.value
            && !is_label_value(value)
        {
            return invalid(format!("spec.taints[{index}].value"), value, VALUE);
        }
        if spec.taints.iter().take(index).any(|other| other.key == taint.key && other.effect == taint.effect) {
            return invalid(
                format!("spec.taints[{index}].key"),
                &taint.key,
                "is given twice with the same effect: remove one",
            );
        }
    }
    match &spec.api_endpoint {
        Some(text) => {
            let Ok(uri) = text.parse::<http::Uri>() else {
                return invalid("spec.apiEndpoint".to_owned(), text, "is not an address: use https://HOST[:PORT]");
            };
            endpoint("spec.apiEndpoint", &uri, local)
        }
        None => Ok(()),
    }
}

/// Refuses an address that is no member's: the operator and the planes call it from within the platform's own
/// network, so a tenant could reach what only they may (the cloud's metadata service, local ports).
pub fn endpoint(field: &str, uri: &http::Uri, local: LocalEndpoints) -> Result<(), Error> {
    let refuse = |problem: &str| {
        let remedy =
            format!("{problem}: give the address at which the member's API server is reached over the network");
        Err(FieldError::of_value(field, &uri.to_string(), &remedy).into())
    };
    if uri.scheme_str() != Some("https") {
        return refuse("does not start with https://");
    }
    if uri.query().is_some() {
        return refuse("has a query");
    }
    let Some(host) = uri.host().filter(|host| !host.is_empty()) else { return refuse("names no host") };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return refuse("carries a user");
    }
    match refused_host(host, local) {
        Some(problem) => refuse(problem),
        None => Ok(()),
    }
}

fn prefix(key: &str) -> Option<&str> {
    key.split_once('/').map(|(prefix, _)| prefix)
}

/// The instance that a membership belongs to.
#[must_use]
pub fn instance_key(join: &MemberClusterJoin) -> InstanceKey {
    InstanceKey::of(&join.spec.instance_ref, &join.namespace().unwrap_or_default())
}

/// Whoever else has the cluster name in the same instance with an older right to it, as `namespace/name`.
#[must_use]
pub fn older_claim<'a>(
    join: &MemberClusterJoin,
    all: impl IntoIterator<Item = &'a MemberClusterJoin>,
) -> Option<String> {
    let rank = |join: &MemberClusterJoin| {
        (join.metadata.creation_timestamp.as_ref().map(|time| time.0), join.namespace(), join.name_any())
    };
    let mine = rank(join);
    all.into_iter()
        .filter(|other| other.spec.cluster_name == join.spec.cluster_name && instance_key(other) == instance_key(join))
        .map(|other| (rank(other), other))
        .filter(|(theirs, _)| *theirs < mine)
        .min_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, other)| format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec_of(change: Value) -> MemberClusterJoinSpec {
        let mut value = json!({
            "instanceRef": {"name": "fleet"}, "clusterName": "one", "kubeconfigSecretRef": {"name": "s"},
        });
        for (key, given) in change.as_object().unwrap() {
            value[key] = given.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn fields_that_the_plane_would_refuse_are_named() {
        let cases = [
            ("nothing special", json!({}), None),
            (
                "all good",
                json!({"provider": "aws", "region": "eu-west", "zones": ["a", "b"], "labels": {"example.com/tier": "gold"},
                "taints": [{"key": "dedicated", "value": "x", "effect": "NoSchedule"}], "apiEndpoint": "https://10.0.0.1:6443"}),
                None,
            ),
            (
                "name of a Secret of others",
                json!({"clusterName": "one-impersonator"}),
                Some("spec.clusterName: \"one-impersonator\""),
            ),
            ("provider with a space", json!({"provider": "my cloud"}), Some("spec.provider: \"my cloud\"")),
            ("region with a slash", json!({"region": "eu/west"}), Some("spec.region: \"eu/west\"")),
            ("empty zone", json!({"zones": ["a", ""]}), Some("spec.zones[1]")),
            ("label key", json!({"labels": {"a b": "c"}}), Some("spec.labels: \"a b\"")),
            ("label value", json!({"labels": {"a": "b c"}}), Some("spec.labels[a]")),
            ("label of ours", json!({"labels": {"airdock.dev/member": "x"}}), Some("set by Airdock itself")),
            ("managed-by", json!({"labels": {"app.kubernetes.io/managed-by": "x"}}), Some("set by Airdock itself")),
            ("taint key", json!({"taints": [{"key": "-", "effect": "NoSchedule"}]}), Some("spec.taints[0].key")),
            (
                "taint value",
                json!({"taints": [{"key": "a", "value": "!", "effect": "NoSchedule"}]}),
                Some("spec.taints[0].value"),
            ),
            (
                "taint twice",
                json!({"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}),
                Some("spec.taints[1].key"),
            ),
            (
                "endpoint",
                json!({"apiEndpoint": "https://169.254.169.254"}),
                Some("spec.apiEndpoint: \"https://169.254.169.254/\""),
            ),
            ("no endpoint at all", json!({"apiEndpoint": "https://[::1"}), Some("spec.apiEndpoint")),
        ];
        for (name, change, want) in cases {
            let got = spec(&spec_of(change), LocalEndpoints::Refused).map_err(|e| e.to_string());
            match want {
                None => assert!(got.is_ok(), "{name}: {got:?}"),
                Some(words) => assert!(got.as_ref().is_err_and(|e| e.contains(words)), "{name}: {got:?}"),
            }
        }
    }

    #[test]
    fn addresses_of_nobody_elses_cluster_are_refused() {
        let refused = [
            "https://127.0.0.1:6443",
            "https://127.8.8.8",
            "https://localhost:6443",
            "https://LOCALHOST.",
            "https://api.localhost",
            "https://[::1]:6443",
            "https://0.0.0.0",
            "https://0.1.2.3",
            "https://[::]",
            "https://169.254.169.254",
            "https://[fe80::1]",
            "https://[::ffff:127.0.0.1]",
            "https://[::127.0.0.1]",
            "https://[::ffff:169.254.169.254]",
            "https://[64:ff9b::a9fe:a9fe]",
            "https://[2002:7f00:1::]",
            "https://[fd00:ec2::254]",
            "https://100.100.100.200",
            "https://metadata.google.internal",
            "https://224.0.0.1",
            "https://255.255.255.255",
            "https://2130706433",
            "https://127.1",
            "https://0x7f000001",
            "http://10.0.0.1",
            "https://u:p@10.0.0.1",
            "https://10.0.0.1/?x=y",
        ];
        for text in refused {
            let error = endpoint("f", &text.parse().unwrap(), LocalEndpoints::Refused).expect_err(text).to_string();
            assert!(error.starts_with("f: ") && error.contains("give the address"), "{error}");
        }
        for text in [
            "https://10.0.0.1:6443",
            "https://192.168.1.1",
            "https://198.18.0.5:6443",
            "https://[fd00::5]:6443",
            "https://[2001:db8::1]",
            "https://api.example.com",
            "https://rancher.example.com/k8s/clusters/c-1",
            "https://x0xff.example",
        ] {
            endpoint("f", &text.parse().unwrap(), LocalEndpoints::Refused).expect(text);
        }
        for (text, ok) in
            [("https://127.0.0.1:1", true), ("https://localhost:1", true), ("https://169.254.169.254", false)]
        {
            assert_eq!(endpoint("f", &text.parse().unwrap(), LocalEndpoints::Loopback).is_ok(), ok, "{text}");
        }
    }

    fn join(namespace: &str, name: &str, created: &str, instance: Value, cluster: &str) -> MemberClusterJoin {
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
            "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created},
            "spec": {"instanceRef": instance, "clusterName": cluster, "kubeconfigSecretRef": {"name": "s"}},
        }))
        .unwrap()
    }

    #[test]
    fn the_oldest_claim_to_a_name_wins() {
        let early = "2026-01-01T00:00:00Z";
        let late = "2026-01-02T00:00:00Z";
        let here = || json!({"name": "fleet"});
        let all = [
            join("a", "first", early, here(), "one"),
            join("a", "second", late, here(), "one"),
            join("a", "twin", early, here(), "one"),
            join("a", "other-name", early, here(), "two"),
            join("b", "other-instance", early, here(), "one"),
            join("b", "from-elsewhere", late, json!({"name": "fleet", "namespace": "a"}), "one"),
        ];
        let claims = |name: &str| older_claim(all.iter().find(|j| j.name_any() == name).unwrap(), &all);
        assert_eq!(claims("first"), None);
        assert_eq!(claims("second").as_deref(), Some("a/first"));
        assert_eq!(claims("twin").as_deref(), Some("a/first"), "same age: the name decides");
        assert_eq!(claims("other-name"), None);
        assert_eq!(claims("other-instance"), None);
        assert_eq!(claims("from-elsewhere").as_deref(), Some("a/first"), "the instance is what counts");
    }
}
