//! The parts that an instance is made of, and what they are called.

use crate::api::instance::{KarmadaInstance, Profile};
use kube::ResourceExt as _;

/// Karmada's version when the spec names none: the newest that Airdock was tested with.
pub const KARMADA_VERSION: &str = "v1.18.2";

/// Kubernetes' version when the spec names none: the newest that Airdock was tested with.
pub const KUBERNETES_VERSION: &str = "v1.36.3";

/// Tag of the etcd image.
pub const ETCD_VERSION: &str = "3.6.8-0";

/// A part of an instance that runs in pods of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The plane's database.
    Etcd,
    /// The plane's API server.
    ApiServer,
    /// Kubernetes' own controllers, as far as a plane needs them.
    KubeControllerManager,
    /// Airdock's implementation of Karmada (Compact).
    Engine,
    /// Serves the Cluster API (Full).
    AggregatedApiServer,
    /// Karmada's controllers (Full).
    ControllerManager,
    /// Karmada's scheduler (Full).
    Scheduler,
    /// Karmada's admission webhooks (Full).
    Webhook,
    /// Moves replicas that find no room (Full, optional).
    Descheduler,
    /// Searches and caches across members (Full, optional).
    Search,
    /// Serves the members' metrics (Full, optional).
    MetricsAdapter,
}

/// How far an installation must be before a component may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// At once. The API server starts beside etcd: it waits for it by itself, and both starts overlap.
    Base,
    /// When the plane answers and holds its definitions.
    Plane,
}

impl Component {
    /// All of them, in the order in which they are listed to people.
    pub const ALL: [Self; 11] = [
        Self::Etcd,
        Self::ApiServer,
        Self::KubeControllerManager,
        Self::Engine,
        Self::AggregatedApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Webhook,
        Self::Descheduler,
        Self::Search,
        Self::MetricsAdapter,
    ];

    /// Its name in the spec, in labels and after the instance's name in names of objects.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Engine => "engine",
            Self::AggregatedApiServer => "aggregated-apiserver",
            Self::ControllerManager => "controller-manager",
            Self::Scheduler => "scheduler",
            Self::Webhook => "webhook",
            Self::Descheduler => "descheduler",
            Self::Search => "search",
            Self::MetricsAdapter => "metrics-adapter",
        }
    }

    /// The component of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.name() == name)
    }

    /// Whether it belongs to a profile.
    #[must_use]
    pub fn is_of(self, profile: Profile) -> bool {
        match self {
            Self::Etcd | Self::ApiServer | Self::KubeControllerManager => true,
            Self::Engine => profile == Profile::Compact,
            _ => profile == Profile::Full,
        }
    }

    /// Whether it runs only where the spec enables it.
    #[must_use]
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Descheduler | Self::Search | Self::MetricsAdapter)
    }

    /// Whether it runs in an instance.
    #[must_use]
    pub fn is_enabled(self, instance: &KarmadaInstance) -> bool {
        self.is_of(instance.spec.profile)
            && (!self.is_optional()
                || instance.spec.components.get(self.name()).is_some_and(|settings| settings.enabled == Some(true)))
    }

    /// When it may start.
    #[must_use]
    pub fn stage(self) -> Stage {
        match self {
            Self::Etcd | Self::ApiServer => Stage::Base,
            _ => Stage::Plane,
        }
    }

    /// Whether it is a StatefulSet; the others are Deployments.
    #[must_use]
    pub fn is_stateful(self) -> bool {
        self == Self::Etcd
    }

    /// How many of it are wanted.
    #[must_use]
    pub fn replicas(self, instance: &KarmadaInstance) -> i32 {
        match self {
            Self::Etcd => instance.spec.etcd.managed.replicas,
            Self::ApiServer => instance.spec.api_server.replicas,
            _ => instance.spec.components.get(self.name()).and_then(|settings| settings.replicas).unwrap_or(1),
        }
    }

    /// Its image, complete. `engine` is the image of Airdock itself.
    #[must_use]
    pub fn image(self, instance: &KarmadaInstance, engine: &str) -> String {
        let images = &instance.spec.images;
        if let Some(image) = images.overrides.get(self.name()) {
            return image.clone();
        }
        let kubernetes = instance.spec.kubernetes_version.as_deref().unwrap_or(KUBERNETES_VERSION);
        let karmada = instance.spec.version.as_deref().unwrap_or(KARMADA_VERSION);
        let (registry, image) = match self {
            Self::Etcd => ("registry.k8s.io", format!("etcd:{ETCD_VERSION}")),
            Self::ApiServer => ("registry.k8s.io", format!("kube-apiserver:{kubernetes}")),
            Self::KubeControllerManager => ("registry.k8s.io", format!("kube-controller-manager:{kubernetes}")),
            Self::Engine => match engine.strip_prefix("ghcr.io/airdock-dev/") {
                Some(image) => ("ghcr.io/airdock-dev", image.to_owned()),
                None => return engine.to_owned(),
            },
            _ => ("docker.io/karmada", format!("karmada-{}:{karmada}", self.name())),
        };
        let registry = images.registry.as_deref().unwrap_or(registry);
        format!("{}/{image}", registry.trim_end_matches('/'))
    }
}

/// The components that run in an instance.
pub fn enabled(instance: &KarmadaInstance) -> impl Iterator<Item = Component> + '_ {
    Component::ALL.into_iter().filter(|component| component.is_enabled(instance))
}

/// What of an image reference tells the version: its tag, else its digest.
#[must_use]
pub fn image_version(image: &str) -> Option<&str> {
    if let Some((name, digest)) = image.split_once('@') {
        return Some(image_version(name).unwrap_or(digest));
    }
    let (_, last) = image.rsplit_once('/').unwrap_or(("", image));
    last.split_once(':').map(|(_, tag)| tag)
}

/// The plane's administrator; upstream's tools and roles know it under this name.
pub const ADMIN_USER: &str = "system:admin";

/// The engine's identity in its plane.
pub const ENGINE_USER: &str = "airdock:engine";

/// Names and addresses of an instance's objects.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Name of the instance.
    pub instance: &'a str,
    /// Namespace of the instance.
    pub namespace: &'a str,
    /// DNS domain of the host cluster.
    pub dns_domain: &'a str,
}

/// What the name of the Service by which clients reach etcd says after the instance's.
pub const ETCD_CLIENT_SERVICE: &str = "etcd-client";

/// Port of the plane's API.
pub const API_PORT: u16 = 5443;

impl<'a> Names<'a> {
    /// The names of an instance.
    #[must_use]
    pub fn of(instance: &'a KarmadaInstance) -> Self {
        Self {
            instance: instance.metadata.name.as_deref().unwrap_or_default(),
            namespace: instance.metadata.namespace.as_deref().unwrap_or("default"),
            dns_domain: &instance.spec.networking.dns_domain,
        }
    }

    /// Name of an object: the instance's, a dash, and what the object is.
    #[must_use]
    pub fn object(&self, what: &str) -> String {
        format!("{}-{what}", self.instance)
    }

    /// Name of a component's workload, and of its Service.
    #[must_use]
    pub fn component(&self, component: Component) -> String {
        self.object(component.name())
    }

    /// DNS name of a Service, short of the domain.
    #[must_use]
    pub fn host(&self, what: &str) -> String {
        format!("{}.{}.svc", self.object(what), self.namespace)
    }

    /// All DNS names of a Service.
    #[must_use]
    pub fn hosts(&self, what: &str) -> Vec<String> {
        let (service, host) = (self.object(what), self.host(what));
        vec![format!("{service}.{}", self.namespace), format!("{host}.{}", self.dns_domain), host, service]
    }

    /// Address of the plane's API within the host cluster.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("https://{}:{API_PORT}", self.host(Component::ApiServer.name()))
    }
}

/// Names of an instance's volume claims.
#[must_use]
pub fn claim_names(instance: &KarmadaInstance) -> Vec<String> {
    let name = instance.name_any();
    (0..instance.spec.etcd.managed.replicas).map(|ordinal| format!("data-{name}-etcd-{ordinal}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::instance;

    #[test]
    fn images_follow_registry_and_overrides() {
        let mut i = instance("Full");
        let engine = "ghcr.io/airdock-dev/airdock:v9";
        assert_eq!(Component::Etcd.image(&i, engine), format!("registry.k8s.io/etcd:{ETCD_VERSION}"));
        assert_eq!(
            Component::Scheduler.image(&i, engine),
            format!("docker.io/karmada/karmada-scheduler:{KARMADA_VERSION}")
        );
        assert_eq!(Component::Engine.image(&i, engine), engine);
        i.spec.version = Some("v1.17.0".into());
        i.spec.kubernetes_version = Some("v1.35.1".into());
        i.spec.images.registry = Some("mirror.example:5000/k".into());
        i.spec.images.overrides.insert("webhook".into(), "x@sha256:ab".into());
        assert_eq!(Component::Webhook.image(&i, engine), "x@sha256:ab");
        assert_eq!(Component::Search.image(&i, engine), "mirror.example:5000/k/karmada-search:v1.17.0");
        assert_eq!(Component::ApiServer.image(&i, engine), "mirror.example:5000/k/kube-apiserver:v1.35.1");
        assert_eq!(Component::Engine.image(&i, engine), "mirror.example:5000/k/airdock:v9");
        assert_eq!(Component::Engine.image(&i, "local/airdock:dev"), "local/airdock:dev");
    }

    #[test]
    fn versions_of_images() {
        for (image, version) in [
            ("registry.k8s.io/etcd:3.6.8-0", Some("3.6.8-0")),
            ("host:5000/a/b", None),
            ("host:5000/a/b:v1", Some("v1")),
            ("a@sha256:ab", Some("sha256:ab")),
            ("a:v1@sha256:ab", Some("v1")),
        ] {
            assert_eq!(image_version(image), version, "{image}");
        }
    }

    #[test]
    fn optional_components_run_when_enabled() {
        let mut i = instance("Full");
        assert!(enabled(&i).all(|c| !c.is_optional() && c != Component::Engine));
        i.spec.components.entry("search".into()).or_default().enabled = Some(true);
        assert!(enabled(&i).any(|c| c == Component::Search));
        let compact: Vec<_> = enabled(&instance("Compact")).map(Component::name).collect();
        assert_eq!(compact, ["etcd", "apiserver", "kube-controller-manager", "engine"]);
    }
}
