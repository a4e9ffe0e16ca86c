//! Certificate authorities.

use k8s_openapi::jiff::{Timestamp, ToSpan as _};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::{Leaf, Pair, PkiError, leaf};

/// How long a CA lives.
const LIFETIME_HOURS: i64 = 24 * 3650;

/// A certificate authority, ready to sign.
pub struct Ca {
    pair: Pair,
    issuer: rcgen::Issuer<'static, KeyPair>,
    not_after: Timestamp,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pair.fmt(f)
    }
}

impl Ca {
    /// Makes a new CA with a new key.
    pub fn create(common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Generate)?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, common_name);
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        super::set_validity(&mut params, now, now.saturating_add(LIFETIME_HOURS.hours()).unwrap_or(Timestamp::MAX));
        let certificate =
            params.self_signed(&key).map_err(|source| PkiError::Sign { subject: common_name.to_owned(), source })?;
        Self::load(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Takes up a CA that was made before. Its certificate must be one of a CA, and the key its own.
    pub fn load(pair: Pair) -> Result<Self, PkiError> {
        let refuse = |problem| PkiError::Ca { problem };
        let key = KeyPair::from_pem(&pair.key).map_err(|_| refuse("its key cannot be read"))?;
        let details =
            leaf::CertificateDetails::read(&pair.certificate).ok_or(refuse("its certificate cannot be read"))?;
        if !details.is_ca {
            return Err(refuse("its certificate is not one of a CA"));
        }
        if details.public_key != key.public_key_raw() {
            return Err(refuse("certificate and key do not belong together"));
        }
        let issuer = rcgen::Issuer::from_ca_cert_pem(&pair.certificate, key)
            .map_err(|_| refuse("its certificate cannot be read"))?;
        Ok(Self { pair, issuer, not_after: details.not_after })
    }

    /// The certificate with which others check what this CA has signed.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.pair.certificate
    }

    /// Certificate and key.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// End of the CA.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Issues a certificate with a new key.
    pub fn issue(&self, leaf: &Leaf, now: Timestamp, hours: i64) -> Result<Pair, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Generate)?;
        let mut params = leaf.params()?;
        params.use_authority_key_identifier_extension = true;
        let wanted_end = now.saturating_add(hours.hours()).unwrap_or(Timestamp::MAX);
        super::set_validity(&mut params, now, wanted_end.min(self.not_after));
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|source| PkiError::Sign { subject: leaf.common_name.clone(), source })?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_ca_survives_its_pem() {
        let made = Ca::create("airdock test", now()).unwrap();
        let loaded = Ca::load(made.pair().clone()).unwrap();
        assert_eq!(loaded.certificate(), made.certificate());
        assert_eq!(loaded.not_after(), "2035-12-30T00:00:00Z".parse().unwrap());
        assert!(!format!("{made:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn what_is_no_ca_is_refused() {
        let ca = Ca::create("a", now()).unwrap();
        let other = Ca::create("b", now()).unwrap();
        let leaf = ca.issue(&Leaf::client("c", None), now(), 24).unwrap();
        for (pair, problem) in [
            (leaf, "not one of a CA"),
            (Pair { key: other.pair().key.clone(), ..ca.pair().clone() }, "do not belong together"),
            (Pair { key: "x".into(), ..ca.pair().clone() }, "key cannot be read"),
            (Pair { certificate: "x".into(), ..ca.pair().clone() }, "certificate cannot be read"),
        ] {
            let message = Ca::load(pair).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
    }
}
