//! Which keys and certificates an instance has, and the Secrets that hold them. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::instance::{KarmadaInstance, Profile};
use crate::api::{ADMIN_KUBECONFIG, INSTANCE_LABEL, MANAGED_BY, MANAGED_BY_LABEL, OPERATOR_KUBECONFIG, PURPOSE_LABEL};
use crate::chart::{ADMIN_USER, Component, ENGINE_USER, ETCD_CLIENT_SERVICE, Names, enabled, service_address};
use crate::karmada::SYSTEM_NAMESPACE;
use crate::pki::secrets::{Data, key};
use crate::pki::{Content, Entry, Issuer, Leaf, Lifetimes, PkiError};

/// The group that may do everything in a plane. Upstream's components need it: they are tested with nothing less.
const MASTERS: Option<&str> = Some("system:masters");

/// The operator's identity in planes.
const OPERATOR_USER: &str = "airdock:operator";

/// The keys and certificates that an instance is to have. `addresses` are those under which its API server is
/// reached, beyond its names.
pub fn entries(instance: &KarmadaInstance, addresses: &[String]) -> Result<Vec<Entry>, PkiError> {
    let names = Names::of(instance);
    let entry = |purpose: &str, content| Entry { name: names.object(purpose), purpose: purpose.to_owned(), content };
    let certificate = |purpose: &str, issuer, leaf| entry(purpose, Content::Certificate { issuer, leaf });
    let kubeconfig = |purpose: &str, leaf| {
        let content = Content::Kubeconfig { leaf, context: names.instance.to_owned(), server: names.api_url() };
        entry(purpose, content)
    };
    let members = etcd_members(instance, &names);
    let mut entries = Vec::from(roots(instance));
    entries.extend([
        certificate(
            "etcd-server",
            Issuer::Etcd,
            Leaf::server("etcd", names.hosts(ETCD_CLIENT_SERVICE).into_iter().chain(members.clone()).chain(local()))?
                .and_client(),
        ),
        certificate("etcd-peer", Issuer::Etcd, Leaf::server("etcd-peer", members)?.and_client()),
        certificate(
            "apiserver",
            Issuer::Main,
            Leaf::server("kube-apiserver", api_server_names(instance, &names, addresses))?,
        ),
        certificate("apiserver-etcd-client", Issuer::Etcd, Leaf::client("kube-apiserver", None)),
        certificate("front-proxy-client", Issuer::FrontProxy, Leaf::client("front-proxy-client", None)),
        kubeconfig(ADMIN_KUBECONFIG, Leaf::client(ADMIN_USER, MASTERS)),
        kubeconfig(OPERATOR_KUBECONFIG, Leaf::client(OPERATOR_USER, MASTERS)),
    ]);
    for component in enabled(instance) {
        let name = component.name();
        match component {
            Component::Etcd | Component::ApiServer => continue,
            Component::KubeControllerManager => {
                entries.push(kubeconfig(&secret_of(name), Leaf::client("system:kube-controller-manager", None)));
            }
            Component::Engine => entries.push(kubeconfig(&secret_of(name), Leaf::client(ENGINE_USER, None))),
            _ => entries.push(kubeconfig(&secret_of(name), Leaf::client(&format!("system:karmada:{name}"), MASTERS))),
        }
        if serves(component) {
            let within_plane = format!("karmada-{name}.{SYSTEM_NAMESPACE}.svc");
            let hosts = names
                .hosts(name)
                .into_iter()
                .chain(local())
                .chain([format!("{within_plane}.{}", names.dns_domain), within_plane]);
            entries.push(certificate(name, Issuer::Main, Leaf::server(&format!("karmada-{name}"), hosts)?));
        }
        if matches!(component, Component::AggregatedApiServer | Component::Search) {
            let leaf = Leaf::client(&format!("karmada-{name}"), None);
            entries.push(certificate(&format!("{name}-etcd-client"), Issuer::Etcd, leaf));
        }
    }
    if instance.spec.profile == Profile::Full {
        let leaf = Leaf::client("karmada-scheduler", None);
        entries.push(certificate("scheduler-estimator-client", Issuer::Main, leaf));
    }
    Ok(entries)
}

fn secret_of(component: &str) -> String {
    format!("{component}-kubeconfig")
}

fn serves(component: Component) -> bool {
    use Component::{AggregatedApiServer, MetricsAdapter, Search, Webhook};
    matches!(component, AggregatedApiServer | Webhook | Search | MetricsAdapter)
}

fn local() -> [String; 3] {
    ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]
}

fn etcd_members(instance: &KarmadaInstance, names: &Names<'_>) -> Vec<String> {
    (0..instance.spec.etcd.managed.replicas)
        .flat_map(|ordinal| {
            let host = format!("{}-{ordinal}.{}", names.object("etcd"), names.host("etcd"));
            [format!("{host}.{}", names.dns_domain), host]
        })
        .collect()
}

fn api_server_names(instance: &KarmadaInstance, names: &Names<'_>, addresses: &[String]) -> Vec<String> {
    let mut all = names.hosts(Component::ApiServer.name());
    all.extend(local());
    all.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(ToOwned::to_owned));
    all.push(format!("kubernetes.default.svc.{}", names.dns_domain));
    all.extend(service_address(&instance.spec.networking.service_cidr).map(|address| address.to_string()));
    all.extend(addresses.iter().cloned());
    all.extend(instance.spec.api_server.cert_sans.iter().cloned());
    all
}

/// Addresses of a Service: those of the cluster, and of its load balancer.
#[must_use]
pub fn service_addresses(service: &Service) -> Vec<String> {
    let spec = service.spec.iter();
    let cluster = spec.flat_map(|s| s.cluster_ips.iter().flatten().chain(&s.cluster_ip)).cloned();
    let ingress = service.status.iter().filter_map(|s| s.load_balancer.as_ref()).flat_map(|lb| lb.ingress.iter());
    let balancer = ingress.flatten().flat_map(|point| point.ip.iter().chain(&point.hostname)).cloned();
    let mut addresses: Vec<String> =
        cluster.chain(balancer).filter(|address| !address.is_empty() && address != "None").collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// How long certificates live.
#[must_use]
pub fn lifetimes(instance: &KarmadaInstance) -> Lifetimes {
    let certificates = &instance.spec.certificates;
    Lifetimes { leaf_hours: certificates.leaf_lifetime_hours, renew_before_hours: certificates.renew_before_hours }
}

/// The Secret of an entry.
#[must_use]
pub fn secret(instance: &KarmadaInstance, entry: &Entry, data: &Data) -> Secret {
    let names = Names::of(instance);
    let type_ = match entry.content {
        Content::Ca { .. } | Content::Certificate { .. } => "kubernetes.io/tls",
        Content::TokenKey | Content::Kubeconfig { .. } => "Opaque",
    };
    let labels = [
        (MANAGED_BY_LABEL, MANAGED_BY),
        (INSTANCE_LABEL, names.instance),
        (PURPOSE_LABEL, &entry.purpose),
        ("app.kubernetes.io/instance", names.instance),
        ("app.kubernetes.io/part-of", "karmada"),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(entry.name.clone()),
            namespace: Some(names.namespace.to_owned()),
            labels: Some(labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()),
            ..ObjectMeta::default()
        },
        type_: Some(type_.to_owned()),
        data: Some(data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect()),
        ..Secret::default()
    }
}

/// The roots, which a volume that is kept needs to be kept with it: tokens in the plane and kubeconfigs that were
/// handed out stay valid only under the same roots.
#[must_use]
pub fn roots(instance: &KarmadaInstance) -> [Entry; 4] {
    let names = Names::of(instance);
    let entry = |purpose: &str, content| Entry { name: names.object(purpose), purpose: purpose.to_owned(), content };
    let ca = |purpose: &str, issuer| {
        let common_name = format!("{}/{} {purpose}", names.namespace, names.instance);
        entry(purpose, Content::Ca { issuer, common_name })
    };
    [
        ca("ca", Issuer::Main),
        ca("front-proxy-ca", Issuer::FrontProxy),
        ca("etcd-ca", Issuer::Etcd),
        entry("service-account", Content::TokenKey),
    ]
}

/// Data of a Secret.
#[must_use]
pub fn data(secret: &Secret) -> Data {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

/// Which keys the Secret of an entry has; for showing Secrets without their values.
#[must_use]
pub fn data_keys(entry: &Entry) -> &'static [&'static str] {
    match entry.content {
        Content::Ca { .. } | Content::Certificate { .. } => &[key::CA, key::CERTIFICATE, key::PRIVATE_KEY],
        Content::TokenKey => &[key::TOKEN_SIGNING_KEY, key::TOKEN_PUBLIC_KEY],
        Content::Kubeconfig { .. } => &[key::KUBECONFIG],
    }
}

/// Digest of each Secret's data, by name.
#[must_use]
pub fn digests(secrets: &BTreeMap<String, Data>) -> BTreeMap<String, String> {
    let digest =
        |data: &Data| crate::chart::digest(data.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_slice()]));
    secrets.iter().map(|(name, data)| (name.clone(), digest(data))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::mounts;
    use crate::chart::tests::instance;

    #[test]
    fn every_mounted_secret_is_made() {
        for profile in ["Compact", "Full"] {
            let mut i = instance(profile);
            if profile == "Full" {
                for name in ["descheduler", "search", "metrics-adapter"] {
                    i.spec.components.entry(name.into()).or_default().enabled = Some(true);
                }
            }
            let made: Vec<String> = entries(&i, &[]).unwrap().into_iter().map(|entry| entry.purpose).collect();
            for component in enabled(&i) {
                for mount in mounts(component, i.spec.profile) {
                    assert!(made.contains(&mount.secret), "{} of {}", mount.secret, component.name());
                }
            }
            let mut unique = made.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), made.len());
        }
    }

    #[test]
    fn the_api_server_is_known_by_all_its_names() {
        let mut i = instance("Compact");
        i.spec.api_server.cert_sans = vec!["plane.example.com".into(), "192.0.2.7".into()];
        let entries = entries(&i, &["10.9.8.7".into(), "lb.example.com".into()]).unwrap();
        let Content::Certificate { leaf, .. } = &entries.iter().find(|e| e.purpose == "apiserver").unwrap().content
        else {
            panic!("not a certificate")
        };
        for name in [
            "east-apiserver.fleet.svc",
            "east-apiserver.fleet.svc.cluster.local",
            "kubernetes.default.svc",
            "plane.example.com",
            "lb.example.com",
            "localhost",
        ] {
            assert!(leaf.names.contains(name), "{name}");
        }
        for address in ["10.9.8.7", "192.0.2.7", "10.96.0.1", "127.0.0.1"] {
            assert!(leaf.addresses.contains(&address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn servers_behind_the_plane_carry_the_names_of_both_namespaces() {
        let entries = entries(&instance("Full"), &[]).unwrap();
        let Content::Certificate { leaf, .. } =
            &entries.iter().find(|e| e.purpose == "aggregated-apiserver").unwrap().content
        else {
            panic!("not a certificate")
        };
        for name in ["karmada-aggregated-apiserver.karmada-system.svc", "east-aggregated-apiserver.fleet.svc"] {
            assert!(leaf.names.contains(name), "{name}");
        }
    }

    #[test]
    fn addresses_of_a_service() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "spec": { "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "hostname": "lb.example" }] } },
        }))
        .unwrap();
        assert_eq!(service_addresses(&service), ["10.0.0.1", "192.0.2.1", "fd00::1", "lb.example"]);
        let headless: Service = serde_json::from_value(serde_json::json!({ "spec": { "clusterIP": "None" } })).unwrap();
        assert!(service_addresses(&headless).is_empty());
    }
}
