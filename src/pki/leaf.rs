//! Certificates that CAs issue, and when they are to be replaced.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::jiff::{Timestamp, ToSpan as _};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Ca, Pair, PkiError};

/// What a certificate is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// Common name; the user name of a client.
    pub common_name: String,
    /// Organization; the group of a client.
    pub organization: Option<String>,
    /// DNS names of a server.
    pub names: BTreeSet<String>,
    /// IP addresses of a server.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether it may stand for a server.
    pub server: bool,
    /// Whether it may stand for a client.
    pub client: bool,
}

/// Why a certificate is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// It is not there, or cannot be read, or the key is not its own.
    Unusable,
    /// Its CA is another.
    Ca,
    /// It is about to end.
    Expiring,
    /// It would outlive what is now allowed.
    TooLong,
    /// It says something else than it should.
    Content,
}

impl Leaf {
    /// A certificate for a client.
    #[must_use]
    pub fn client(common_name: &str, organization: Option<&str>) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organization: organization.map(ToOwned::to_owned),
            client: true,
            ..Self::default()
        }
    }

    /// A certificate for a server under the given DNS names and IP addresses.
    pub fn server<S: AsRef<str>>(common_name: &str, names: impl IntoIterator<Item = S>) -> Result<Self, PkiError> {
        let mut leaf = Self { common_name: common_name.to_owned(), server: true, ..Self::default() };
        for name in names {
            leaf.add_name(name.as_ref())?;
        }
        Ok(leaf)
    }

    /// The same certificate, also for a client.
    #[must_use]
    pub fn and_client(mut self) -> Self {
        self.client = true;
        self
    }

    fn add_name(&mut self, name: &str) -> Result<(), PkiError> {
        if let Ok(address) = name.parse::<IpAddr>() {
            self.addresses.insert(address);
        } else if is_dns_name(name) {
            self.names.insert(name.to_owned());
        } else {
            return Err(PkiError::Name { name: name.to_owned() });
        }
        Ok(())
    }

    pub(super) fn params(&self) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        if let Some(organization) = &self.organization {
            subject.push(DnType::OrganizationName, organization.as_str());
        }
        subject.push(DnType::CommonName, self.common_name.as_str());
        params.distinguished_name = subject;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if self.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        for name in &self.names {
            let text = name.as_str().try_into().map_err(|_| PkiError::Name { name: name.clone() })?;
            params.subject_alt_names.push(SanType::DnsName(text));
        }
        params.subject_alt_names.extend(self.addresses.iter().map(|&address| SanType::IpAddress(address)));
        Ok(params)
    }

    /// Whether a certificate must be replaced, and why. *Pure.*
    #[must_use]
    pub fn replacement(
        &self,
        pair: Option<&Pair>,
        ca: &Ca,
        now: Timestamp,
        hours: i64,
        renew_before_hours: i64,
    ) -> Option<Replacement> {
        let Some((pair, details)) = pair.and_then(|pair| Some((pair, CertificateDetails::read(&pair.certificate)?)))
        else {
            return Some(Replacement::Unusable);
        };
        let own_key = KeyPair::from_pem(&pair.key).is_ok_and(|key| key.public_key_raw() == details.public_key);
        if !own_key {
            return Some(Replacement::Unusable);
        }
        let issuer = CertificateDetails::read(ca.certificate());
        let same_issuer = issuer.is_some_and(|issuer| {
            details.authority_key_id.is_some() && details.authority_key_id == issuer.subject_key_id
        });
        if !same_issuer {
            return Some(Replacement::Ca);
        }
        // A certificate that ends with its CA gains nothing from being renewed.
        let renew_at = details.not_after.saturating_sub(renew_before_hours.hours()).unwrap_or(Timestamp::MIN);
        if now >= renew_at && details.not_after < ca.not_after() {
            return Some(Replacement::Expiring);
        }
        // A minute's grace, for the time between reading the clock and signing.
        let longest = now.saturating_add(hours.hours()).and_then(|t| t.saturating_add(1.minute()));
        if longest.is_ok_and(|longest| details.not_after > longest) {
            return Some(Replacement::TooLong);
        }
        (details.leaf != *self).then_some(Replacement::Content)
    }
}

/// Whether a string can stand as DNS name in a certificate; a wildcard only as its first label.
fn is_dns_name(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && !rest.is_empty() && rest.split('.').all(label)
}

/// What a certificate says.
pub(super) struct CertificateDetails {
    pub leaf: Leaf,
    pub is_ca: bool,
    pub not_after: Timestamp,
    pub public_key: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
}

impl CertificateDetails {
    /// Reads the first certificate of a PEM text.
    pub fn read(pem: &str) -> Option<Self> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
        let mut details = Self {
            leaf: Leaf::default(),
            is_ca: certificate.is_ca(),
            not_after: Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?,
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            subject_key_id: None,
            authority_key_id: None,
        };
        let subject = certificate.subject();
        subject.iter_common_name().next()?.as_str().ok()?.clone_into(&mut details.leaf.common_name);
        details.leaf.organization =
            subject.iter_organization().next().and_then(|o| o.as_str().ok()).map(ToOwned::to_owned);
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => details.subject_key_id = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    details.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    details.leaf.server = usage.server_auth;
                    details.leaf.client = usage.client_auth;
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        details.leaf.take_alternative_name(name);
                    }
                }
                _ => {}
            }
        }
        Some(details)
    }
}

impl Leaf {
    fn take_alternative_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => {
                self.names.insert((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                if let Ok(address) = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)) {
                    self.addresses.insert(address);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 8760;
    const MONTH: i64 = 720;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn serving() -> Leaf {
        Leaf::server("x", ["a.ns.svc", "*.b.example", "10.0.0.1", "::1"]).unwrap()
    }

    #[test]
    fn a_fresh_certificate_says_what_was_asked() {
        let now = at("2026-01-01T00:00:00Z");
        let ca = Ca::create("ca", now).unwrap();
        for leaf in [serving(), serving().and_client(), Leaf::client("u", Some("g"))] {
            let pair = ca.issue(&leaf, now, YEAR).unwrap();
            let details = CertificateDetails::read(&pair.certificate).unwrap();
            assert_eq!(details.leaf, leaf);
            assert_eq!(details.not_after, at("2027-01-01T00:00:00Z"));
            assert_eq!(leaf.replacement(Some(&pair), &ca, now, YEAR, MONTH), None);
        }
    }

    #[test]
    fn is_replaced_when_and_only_when_needed() {
        let now = at("2026-01-01T00:00:00Z");
        let ca = Ca::create("ca", now).unwrap();
        let pair = ca.issue(&serving(), now, YEAR).unwrap();
        let replacement = |leaf: &Leaf, pair: &Pair, ca: &Ca, at: Timestamp, hours| {
            leaf.replacement(Some(pair), ca, at, hours, MONTH)
        };
        let same = serving();
        assert_eq!(replacement(&same, &pair, &ca, at("2026-12-01T23:59:59Z"), YEAR), None);
        assert_eq!(replacement(&same, &pair, &ca, at("2026-12-02T00:00:00Z"), YEAR), Some(Replacement::Expiring));
        assert_eq!(replacement(&same, &pair, &ca, now, 24), Some(Replacement::TooLong));
        let other = Ca::create("ca", now).unwrap();
        assert_eq!(replacement(&same, &pair, &other, now, YEAR), Some(Replacement::Ca));
        let mut more = serving();
        more.names.insert("c".into());
        assert_eq!(replacement(&more, &pair, &ca, now, YEAR), Some(Replacement::Content));
        assert_eq!(replacement(&serving().and_client(), &pair, &ca, now, YEAR), Some(Replacement::Content));
        let foreign_key = Pair { key: ca.pair().key.clone(), ..pair.clone() };
        assert_eq!(replacement(&same, &foreign_key, &ca, now, YEAR), Some(Replacement::Unusable));
        assert_eq!(same.replacement(None, &ca, now, YEAR, MONTH), Some(Replacement::Unusable));
    }

    #[test]
    fn ends_with_its_ca_at_the_latest() {
        let now = at("2026-01-01T00:00:00Z");
        let ca = Ca::create("ca", now).unwrap();
        let late = at("2035-12-01T00:00:00Z");
        let pair = ca.issue(&serving(), late, YEAR).unwrap();
        assert_eq!(CertificateDetails::read(&pair.certificate).unwrap().not_after, ca.not_after());
        // Renewing would change nothing, so it must not be tried again and again.
        assert_eq!(serving().replacement(Some(&pair), &ca, late, YEAR, MONTH), None);
    }

    #[test]
    fn names_are_checked() {
        for name in ["", "a b", "a..b", "-a", "a_b", "*.", "a.*.b", "a\nb", "{{x}}", &"a".repeat(64)] {
            assert!(Leaf::server("x", [name]).is_err(), "{name:?}");
        }
        for name in ["a", "a.b-c.d", "*.a", "2001:db8::1", "A.example"] {
            assert!(Leaf::server("x", [name]).is_ok(), "{name:?}");
        }
    }
}
