//! The plane's identity in a member: whose it is, and what it may do there. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::api::member::MemberClusterJoin;
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::engine::PLANE_ANNOTATION;
use crate::karmada::{CLUSTER_NAMESPACE, SYSTEM_LABEL};
use crate::machinery::hash::sha256_hex;
use crate::runtime::planes::InstanceKey;

/// Label, in planes and members, that names the [`MemberClusterJoin`] an object was made for.
pub const MEMBER_LABEL: &str = "airdock.dev/member";

/// Label that names the namespace (in the host cluster) of the [`MemberClusterJoin`] behind [`MEMBER_LABEL`].
pub const MEMBER_NAMESPACE_LABEL: &str = "airdock.dev/member-namespace";

/// Annotation, in members, that names the instance an object was made for.
pub const INSTANCE_ANNOTATION: &str = "airdock.dev/instance";

/// Annotation, on the plane's identity in a member: the namespace of upstream's `Work` objects for the member.
pub const WORKS_ANNOTATION: &str = "airdock.dev/execution-namespace";

/// Annotation that upstream's components put on objects in members: the namespace of the `Work` that they come from.
pub const WORK_NAMESPACE_ANNOTATION: &str = "work.karmada.io/namespace";

/// Prefix of the annotations by which memberships hold on to what they share in a member.
pub const USER_ANNOTATION_PREFIX: &str = "users.airdock.dev/";

/// The identity that may only impersonate. Profile Full's components bind their rules to exactly this name, in the
/// namespace of the Secret that the Cluster refers to, so all memberships of a member share it.
pub const IMPERSONATOR: &str = "karmada-impersonator";

/// What the plane's identity may do in the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything, as upstream's: the plane carries any kind of object.
    Full,
    /// Everything but deleting: while a member leaves with `Orphan`, nobody can take its applications away.
    WithoutDelete,
}

/// Whom a member is joined to.
#[derive(Clone, Copy, Debug)]
pub struct Membership<'a> {
    /// The instance.
    pub instance: &'a InstanceKey,
    /// By what its plane's objects in members are told, where that is to be written down.
    pub mark: Option<&'a PlaneMark>,
}

/// By what a plane's objects in a member are told from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaneMark {
    /// Profile Compact: they carry the plane's identity.
    Plane(String),
    /// Profile Full: they name the namespace of the `Work` that they come from, which is named after the cluster.
    Works(String),
}

impl PlaneMark {
    /// The annotation of the plane's identity in the member that says it.
    fn annotation(&self) -> (String, String) {
        let (key, value) = match self {
            Self::Plane(id) => (PLANE_ANNOTATION, id),
            Self::Works(namespace) => (WORKS_ANNOTATION, namespace),
        };
        (key.to_owned(), value.clone())
    }

    /// The mark that the plane's identity in a member names, if it does.
    #[must_use]
    pub fn of_account(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let plane = annotations.get(PLANE_ANNOTATION).cloned().map(Self::Plane);
        plane.or_else(|| annotations.get(WORKS_ANNOTATION).cloned().map(Self::Works))
    }

    /// Whether an object with these annotations is the plane's.
    #[must_use]
    pub fn is_on(&self, annotations: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Plane(id) => annotations.get(PLANE_ANNOTATION) == Some(id),
            Self::Works(namespace) => annotations.get(WORK_NAMESPACE_ANNOTATION) == Some(namespace),
        }
    }
}

/// A membership's own objects in the member; the namespace and the impersonator are shared with others.
#[derive(Clone, Debug)]
pub struct IdentityObjects {
    /// The plane's identity.
    pub account: ServiceAccount,
    /// What it may do.
    pub role: ClusterRole,
    /// Gives it the role.
    pub binding: ClusterRoleBinding,
    /// Where the member's token controller puts its token. Such tokens do not expire; they end with the Secret.
    pub token: Secret,
    /// The same for the impersonator.
    pub impersonator_token: Secret,
}

/// Name of a membership's own objects in the member. The uid makes it differ between all instances, also of other
/// host clusters, that the same cluster may be joined to.
#[must_use]
pub fn identity_name(join: &MemberClusterJoin) -> String {
    let uid = join.uid().unwrap_or_default();
    format!("airdock-{}-{}", join.spec.cluster_name, sha256_hex([uid], 10))
}

/// Name of the Secret with the impersonator's token, in the member.
#[must_use]
pub fn impersonator_token_name(join: &MemberClusterJoin) -> String {
    format!("{}-impersonator", identity_name(join))
}

/// Annotation by which this membership holds on to shared objects in the member.
#[must_use]
pub fn user_annotation(join: &MemberClusterJoin) -> String {
    format!("{USER_ANNOTATION_PREFIX}{}", join.uid().unwrap_or_default())
}

/// The membership's own objects in the member.
#[must_use]
pub fn identity(join: &MemberClusterJoin, of: &Membership<'_>, rights: Rights) -> IdentityObjects {
    let name = identity_name(join);
    let metadata = |name: &str, namespaced: bool| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespaced.then(|| CLUSTER_NAMESPACE.to_owned()),
        labels: Some(labels(join)),
        annotations: Some([(INSTANCE_ANNOTATION.to_owned(), of.instance.to_string())].into()),
        ..ObjectMeta::default()
    };
    let token = |name: &str, account: &str| {
        let mut metadata = metadata(name, true);
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert("kubernetes.io/service-account.name".to_owned(), account.to_owned());
        Secret { metadata, type_: Some("kubernetes.io/service-account-token".to_owned()), ..Secret::default() }
    };
    // By it the plane's objects are found when the plane itself is gone.
    let mut account = metadata(&name, true);
    account.annotations.get_or_insert_default().extend(of.mark.map(PlaneMark::annotation));
    IdentityObjects {
        account: ServiceAccount { metadata: account, ..ServiceAccount::default() },
        role: ClusterRole { metadata: metadata(&name, false), rules: Some(rules(rights)), ..ClusterRole::default() },
        binding: ClusterRoleBinding {
            metadata: metadata(&name, false),
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "ClusterRole".to_owned(),
                name: name.clone(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: name.clone(),
                namespace: Some(CLUSTER_NAMESPACE.to_owned()),
                api_group: None,
            }]),
        },
        token: token(&name, &name),
        impersonator_token: token(&impersonator_token_name(join), IMPERSONATOR),
    }
}

fn rules(rights: Rights) -> Vec<PolicyRule> {
    let verbs: &[&str] = match rights {
        Rights::Full => &["*"],
        Rights::WithoutDelete => &["get", "list", "watch", "create", "update", "patch"],
    };
    let all = || Some(vec!["*".to_owned()]);
    let objects = PolicyRule {
        api_groups: all(),
        resources: all(),
        verbs: verbs.iter().map(ToString::to_string).collect(),
        ..PolicyRule::default()
    };
    let paths = PolicyRule { non_resource_urls: all(), verbs: vec!["get".to_owned()], ..PolicyRule::default() };
    vec![objects, paths]
}

/// Labels of everything that is made for a membership. Names of custom resources may be longer than the value of a
/// label, so a long one is cut and told apart by its hash.
#[must_use]
pub fn labels(join: &MemberClusterJoin) -> BTreeMap<String, String> {
    [
        (MANAGED_BY_LABEL, MANAGED_BY.to_owned()),
        (SYSTEM_LABEL, "true".to_owned()),
        (MEMBER_LABEL, label_of(&join.name_any())),
        (MEMBER_NAMESPACE_LABEL, join.namespace().unwrap_or_default()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// A name as the value of a label.
#[must_use]
pub fn label_of(name: &str) -> String {
    if name.len() <= 63 {
        return name.to_owned();
    }
    let head: String = name.chars().take(46).collect();
    format!("{head}-{}", sha256_hex([name], 16))
}
