//! Certificates of servers on loopback.

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};

/// A server's certificate and key, and the authority that issued it.
pub struct ServerCertificate {
    /// The authority's certificate, in PEM.
    pub ca: String,
    pub certificate: Certificate,
    pub key: KeyPair,
}

/// Issues a certificate for these names and addresses by an authority of its own.
pub fn issue(names: &[&str]) -> ServerCertificate {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.clone().self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    ServerCertificate { ca, certificate, key }
}
