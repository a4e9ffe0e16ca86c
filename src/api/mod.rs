//! Airdock's custom resources, group `airdock.dev/v1alpha1`.
//!
//! Doc comments of fields are what `kubectl explain` shows; write them for users. A field exists here
//! only when it works: whatever is not listed is rejected by the API server's strict field validation.

pub mod app;
pub mod common;
pub mod conversion;
pub mod instance;
pub mod member;
pub mod permission;

pub use app::MultiCloudApp;
pub use instance::KarmadaInstance;
pub use member::MemberClusterJoin;
pub use permission::PermissionBinding;

/// API group of every Airdock kind, and the prefix of its labels, annotations and finalizers.
pub const GROUP: &str = "airdock.dev";

/// Label on everything that Airdock writes, in the host cluster, in planes and in members.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "airdock";

/// Label that names the instance an object of the host cluster belongs to.
pub const INSTANCE_LABEL: &str = "airdock.dev/instance";

/// Label that names the [`MultiCloudApp`] that an object of a plane was made for.
pub const APP_LABEL: &str = "airdock.dev/app";

/// Label that names the namespace (in the host cluster) of the [`MultiCloudApp`] behind [`APP_LABEL`].
pub const APP_NAMESPACE_LABEL: &str = "airdock.dev/app-namespace";

/// Annotation with the uid of the [`MultiCloudApp`] that an object of a plane belongs to. It decides whose the object is;
/// the labels are for finding it.
pub const OWNER_UID_ANNOTATION: &str = "airdock.dev/owner-uid";

/// Annotation, in planes and members, on namespaces that Airdock made because an application needed them. Such a namespace is
/// deleted when the last application has left it, if nothing of anybody else is in it.
pub const CREATED_FOR_ANNOTATION: &str = "airdock.dev/created-for";

/// Label that names the component of the [`MultiCloudApp`] behind [`APP_LABEL`].
pub const COMPONENT_LABEL: &str = "airdock.dev/component";

/// Label that names the [`PermissionBinding`] that an object of a plane was made for.
pub const PERMISSION_LABEL: &str = "airdock.dev/permission";

/// Label that names the namespace (in the host cluster) of the [`PermissionBinding`] behind [`PERMISSION_LABEL`].
pub const PERMISSION_NAMESPACE_LABEL: &str = "airdock.dev/permission-namespace";

/// Label that tells what a Secret holds, for example `admin-kubeconfig`.
pub const PURPOSE_LABEL: &str = "airdock.dev/purpose";

/// Value of the purpose label on Secrets with the operator's kubeconfig for a plane.
pub const OPERATOR_KUBECONFIG: &str = "operator-kubeconfig";

/// Value of the purpose label on Secrets with the administrator's kubeconfig for a plane.
pub const ADMIN_KUBECONFIG: &str = "admin-kubeconfig";
