//! What the API server's own validation cannot see. Pure.

use std::collections::BTreeMap;

use crate::api::instance::{KarmadaInstance, Profile};

use super::{ChartError, Component};

/// Streams that an API server must let a connection have: the operator's watches of a plane share one with its requests.
pub const MIN_STREAMS_PER_CONNECTION: usize = 64;

/// Names the first thing in the spec that cannot be carried out.
pub fn validate(instance: &KarmadaInstance) -> Result<(), ChartError> {
    components(instance)?;
    images(instance)?;
    certificates(instance)?;
    service_address(&instance.spec.networking.service_cidr).ok_or_else(|| ChartError::Invalid {
        field: "spec.networking.serviceCidr".into(),
        value: instance.spec.networking.service_cidr.clone(),
        remedy: "give a network with room for addresses, such as 10.96.0.0/12".into(),
    })?;
    if instance.spec.profile == Profile::Full && instance.spec.crds.is_none() {
        return Err(ChartError::Invalid {
            field: "spec.crds".into(),
            value: "(absent)".into(),
            remedy: "profile Full needs Karmada's CRD bundle: give crds.source.url with sha256, or configMapRef".into(),
        });
    }
    Ok(())
}

fn components(instance: &KarmadaInstance) -> Result<(), ChartError> {
    let profile = instance.spec.profile;
    for (name, settings) in &instance.spec.components {
        let component = known(&format!("spec.components.{name}"), name, profile)?;
        let invalid = |field: &str, value: String, remedy: &str| {
            let field = format!("spec.components.{name}.{field}");
            Err(ChartError::Invalid { field, value, remedy: remedy.to_owned() })
        };
        if let Some(enabled) = settings.enabled
            && !component.is_optional()
        {
            return invalid("enabled", enabled.to_string(), "remove it: this component always runs");
        }
        match (component, settings.replicas) {
            (Component::Etcd, Some(n)) => {
                return invalid("replicas", n.to_string(), "remove it, and use spec.etcd.managed.replicas");
            }
            (Component::ApiServer, Some(n)) => {
                return invalid("replicas", n.to_string(), "remove it, and use spec.apiServer.replicas");
            }
            _ => {}
        }
        flags(&format!("spec.components.{name}.extraArgs"), settings.extra_args.keys())?;
        if component == Component::ApiServer {
            streams(&format!("spec.components.{name}.extraArgs"), &settings.extra_args)?;
        }
        if let Some(flag) = settings
            .extra_args
            .keys()
            .find(|flag| component == Component::ApiServer && instance.spec.api_server.extra_args.contains_key(*flag))
        {
            return invalid(
                &format!("extraArgs.{flag}"),
                settings.extra_args[flag].clone(),
                "remove it: spec.apiServer.extraArgs sets the same flag",
            );
        }
    }
    flags("spec.apiServer.extraArgs", instance.spec.api_server.extra_args.keys())?;
    streams("spec.apiServer.extraArgs", &instance.spec.api_server.extra_args)
}

/// Where a connection may not have as many streams as watches share it, what comes last would wait for ever.
fn streams(field: &str, extra_args: &BTreeMap<String, String>) -> Result<(), ChartError> {
    const FLAG: &str = "http2-max-streams-per-connection";
    let Some(value) = extra_args.get(FLAG) else { return Ok(()) };
    // 0 is kube-apiserver's own default, which is 100.
    if value.parse().is_ok_and(|streams: usize| streams == 0 || streams >= MIN_STREAMS_PER_CONNECTION) {
        return Ok(());
    }
    Err(ChartError::Invalid {
        field: format!("{field}.{FLAG}"),
        value: value.clone(),
        remedy: format!("give a number of {MIN_STREAMS_PER_CONNECTION} or more, or 0 for kube-apiserver's default"),
    })
}

fn known(field: &str, name: &str, profile: Profile) -> Result<Component, ChartError> {
    let names: Vec<_> = Component::ALL.into_iter().filter(|c| c.is_of(profile)).map(Component::name).collect();
    Component::named(name).filter(|component| component.is_of(profile)).ok_or_else(|| ChartError::Invalid {
        field: field.to_owned(),
        value: name.to_owned(),
        remedy: format!("profile {profile:?} has no such component; it has {}", names.join(", ")),
    })
}

/// A flag must look like one, so that none can hide behind another spelling of its name.
fn flags<'a>(field: &str, names: impl Iterator<Item = &'a String>) -> Result<(), ChartError> {
    for name in names {
        let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && name.len() <= 100;
        if !fits {
            return Err(ChartError::Invalid {
                field: field.to_owned(),
                value: name.clone(),
                remedy: "write the flag's name alone, without dashes in front: lower-case letters, digits and '-'"
                    .into(),
            });
        }
    }
    Ok(())
}

fn images(instance: &KarmadaInstance) -> Result<(), ChartError> {
    for (name, image) in &instance.spec.images.overrides {
        let field = format!("spec.images.overrides.{name}");
        known(&field, name, instance.spec.profile)?;
        if image.is_empty() || image.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let remedy = "give a complete image reference, such as registry.example.com/etcd:3.6.8-0".into();
            return Err(ChartError::Invalid { field, value: image.clone(), remedy });
        }
    }
    Ok(())
}

fn certificates(instance: &KarmadaInstance) -> Result<(), ChartError> {
    let certificates = &instance.spec.certificates;
    if certificates.renew_before_hours >= certificates.leaf_lifetime_hours {
        return Err(ChartError::Invalid {
            field: "spec.certificates.renewBeforeHours".into(),
            value: certificates.renew_before_hours.to_string(),
            remedy: format!(
                "must be less than leafLifetimeHours ({}), or certificates would be replaced all the time",
                certificates.leaf_lifetime_hours
            ),
        });
    }
    let names = &instance.spec.api_server.cert_sans;
    crate::pki::Leaf::server("check", names).map(drop).map_err(|error| ChartError::Invalid {
        field: "spec.apiServer.certSANs".into(),
        value: names.join(", "),
        remedy: error.to_string(),
    })
}

/// The address of the Service `kubernetes` within a plane: the first of its Service network.
#[must_use]
pub fn service_address(cidr: &str) -> Option<std::net::IpAddr> {
    use std::net::IpAddr;
    let (address, prefix) = cidr.split_once('/')?;
    let prefix: u32 = prefix.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(v4) if prefix <= 30 => {
            let network = v4.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Some(IpAddr::V4((network + 1).into()))
        }
        IpAddr::V6(v6) if (1..=126).contains(&prefix) => {
            let network = v6.to_bits() & (u128::MAX << (128 - prefix));
            Some(IpAddr::V6((network + 1).into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::instance;

    fn refused(change: impl FnOnce(&mut KarmadaInstance), profile: &str) -> String {
        let mut i = instance(profile);
        change(&mut i);
        validate(&i).unwrap_err().to_string()
    }

    #[test]
    fn names_field_value_and_remedy() {
        let component = |i: &mut KarmadaInstance, name: &str| i.spec.components.entry(name.into()).or_default().clone();
        for (message, words) in [
            (
                refused(
                    |i| {
                        i.spec.components.insert("engine".into(), Default::default());
                    },
                    "Full",
                ),
                vec!["spec.components.engine", "profile Full has no such component", "scheduler"],
            ),
            (
                refused(
                    |i| {
                        i.spec.components.insert("webhook".into(), Default::default());
                    },
                    "Compact",
                ),
                vec!["profile Compact", "engine"],
            ),
            (
                refused(
                    |i| {
                        component(i, "scheduler");
                        i.spec.components.get_mut("scheduler").unwrap().enabled = Some(false);
                    },
                    "Full",
                ),
                vec!["spec.components.scheduler.enabled", "\"false\"", "always runs"],
            ),
            (
                refused(
                    |i| {
                        component(i, "etcd");
                        i.spec.components.get_mut("etcd").unwrap().replicas = Some(3);
                    },
                    "Full",
                ),
                vec!["spec.components.etcd.replicas", "\"3\"", "spec.etcd.managed.replicas"],
            ),
            (
                refused(
                    |i| {
                        i.spec.api_server.extra_args.insert("--v".into(), "4".into());
                    },
                    "Compact",
                ),
                vec!["spec.apiServer.extraArgs", "\"--v\"", "without dashes"],
            ),
            (
                refused(
                    |i| {
                        i.spec.api_server.extra_args.insert("etcd_servers".into(), "x".into());
                    },
                    "Compact",
                ),
                vec!["etcd_servers"],
            ),
            (
                refused(
                    |i| {
                        let flag = "http2-max-streams-per-connection".to_owned();
                        i.spec.api_server.extra_args.insert(flag, "63".into());
                    },
                    "Full",
                ),
                vec!["spec.apiServer.extraArgs.http2-max-streams-per-connection", "\"63\"", "64 or more"],
            ),
            (
                refused(
                    |i| {
                        let settings = i.spec.components.entry("apiserver".into()).or_default();
                        settings.extra_args.insert("http2-max-streams-per-connection".into(), "many".into());
                    },
                    "Compact",
                ),
                vec!["spec.components.apiserver.extraArgs.http2-max-streams-per-connection", "64 or more"],
            ),
            (
                refused(
                    |i| {
                        i.spec.api_server.extra_args.insert("a=b".into(), "x".into());
                    },
                    "Compact",
                ),
                vec!["a=b"],
            ),
            (
                refused(
                    |i| {
                        i.spec.images.overrides.insert("etcd".into(), "a b".into());
                    },
                    "Compact",
                ),
                vec!["spec.images.overrides.etcd", "complete image reference"],
            ),
            (
                refused(
                    |i| {
                        i.spec.images.overrides.insert("nothing".into(), "a".into());
                    },
                    "Compact",
                ),
                vec!["spec.images.overrides.nothing"],
            ),
            (
                refused(|i| i.spec.certificates.renew_before_hours = 9000, "Compact"),
                vec!["spec.certificates.renewBeforeHours", "9000", "8760"],
            ),
            (
                refused(|i| i.spec.api_server.cert_sans = vec!["a b".into()], "Compact"),
                vec!["spec.apiServer.certSANs", "a b"],
            ),
            (
                refused(|i| i.spec.networking.service_cidr = "10.0.0.0/32".into(), "Compact"),
                vec!["spec.networking.serviceCidr"],
            ),
            (refused(|i| i.spec.crds = None, "Full"), vec!["spec.crds", "configMapRef"]),
        ] {
            for word in words {
                assert!(message.contains(word), "{message} lacks {word}");
            }
        }
        validate(&instance("Full")).unwrap();
        validate(&instance("Compact")).unwrap();
    }

    #[test]
    fn first_address_of_a_network() {
        for (cidr, address) in [
            ("10.96.0.0/12", Some("10.96.0.1")),
            ("10.97.3.9/12", Some("10.96.0.1")),
            ("0.0.0.0/0", Some("0.0.0.1")),
            ("fd00::/108", Some("fd00::1")),
            ("10.0.0.0/31", None),
            ("10.0.0.0", None),
            ("x/8", None),
        ] {
            assert_eq!(service_address(cidr), address.map(|a| a.parse().unwrap()), "{cidr}");
        }
    }
}
