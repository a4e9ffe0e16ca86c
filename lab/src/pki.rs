//! The clusters' certificates: a CA per cluster and leaves for its
//! parts. They last as long as the lab, so nothing here renews.

use std::net::IpAddr;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

/// Who a leaf is for.
pub struct Subject<'a> {
    /// The user name in a client certificate.
    pub name: &'a str,
    /// The group in a client certificate.
    pub group: Option<&'a str>,
    /// Host names that a server answers to.
    pub names: &'a [String],
    /// Addresses that a server answers on.
    pub addresses: &'a [IpAddr],
}

/// Makes a new CA.
pub fn ca(name: &str) -> Result<Pair> {
    let key = KeyPair::generate().context("making a CA's key")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let cert = params.self_signed(&key).context("signing a CA")?;
    Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
}

/// Signs a leaf that serves and calls.
pub fn leaf(ca: &Pair, subject: &Subject<'_>) -> Result<Pair> {
    let signer = KeyPair::from_pem(&ca.key).context("reading the CA's key")?;
    let issuer = Issuer::from_ca_cert_pem(&ca.cert, signer).context("reading the CA")?;
    let key = KeyPair::generate().context("making a key")?;
    let mut params = CertificateParams::new(subject.names.to_vec()).context("naming a certificate")?;
    params.subject_alt_names.extend(subject.addresses.iter().map(|ip| SanType::IpAddress(*ip)));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject.name);
    if let Some(group) = subject.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let cert = params.signed_by(&key, &issuer).context("signing a certificate")?;
    Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
}

/// A key pair for service account tokens: `cert` holds the public half.
pub fn token_keys() -> Result<Pair> {
    let key = KeyPair::generate().context("making the service account key")?;
    Ok(Pair { cert: key.public_key_pem(), key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::*;

    #[test]
    fn a_leaf_carries_its_subject_and_verifies_against_its_ca() {
        let ca = ca("lab").unwrap();
        let pair = leaf(
            &ca,
            &Subject {
                name: "admin",
                group: Some("system:masters"),
                names: &["kubernetes".into()],
                addresses: &["198.19.0.1".parse().unwrap()],
            },
        )
        .unwrap();
        let (_, ca_pem) = parse_x509_pem(ca.cert.as_bytes()).unwrap();
        let ca_cert = ca_pem.parse_x509().unwrap();
        let (_, pem) = parse_x509_pem(pair.cert.as_bytes()).unwrap();
        let cert = pem.parse_x509().unwrap();
        assert_eq!(cert.issuer(), ca_cert.subject());
        let subject = cert.subject().to_string();
        assert!(subject.contains("CN=admin") && subject.contains("O=system:masters"), "{subject}");
        let names = format!("{:?}", cert.subject_alternative_name().unwrap().unwrap().value);
        assert!(names.contains("kubernetes") && names.contains("198, 19, 0, 1"), "{names}");
    }
}
