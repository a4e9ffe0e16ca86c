//! The keys and certificates of an instance. Pure but for the randomness of keys: time comes in as an argument.
//!
//! Three CAs that do not vouch for one another: the main one (API server, clients, webhooks), the one for the
//! front proxy (whoever holds its certificates may name any user), and the one for etcd. Tokens of service accounts
//! are signed with a key of their own, so that renewing a certificate never voids them.

mod ca;
mod kubeconfig;
mod leaf;
pub mod secrets;

pub use ca::Ca;
pub use kubeconfig::Kubeconfig;
pub use leaf::{Leaf, Replacement};
pub use secrets::{CertificateInfo, Content, Entry, Issuer, Keyring, Lifetimes};

use k8s_openapi::jiff::Timestamp;

/// Why there is no key or certificate.
#[derive(thiserror::Error, Debug)]
pub enum PkiError {
    /// A key could not be made.
    #[error("generate a key")]
    Generate(#[source] rcgen::Error),
    /// A certificate could not be signed.
    #[error("sign the certificate of {subject}")]
    Sign {
        /// Common name of the certificate.
        subject: String,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
    /// A CA that is there cannot be used.
    #[error("certificate authority is not usable: {problem}")]
    Ca {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A name for a certificate is none.
    #[error("{name:?} is neither a DNS name nor an IP address")]
    Name {
        /// What was given.
        name: String,
    },
    /// A kubeconfig could not be written.
    #[error("write kubeconfig")]
    Kubeconfig(#[source] serde_saphyr::SerializeError),
}

/// A certificate and its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS #8.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).field("key", &"(redacted)").finish()
    }
}

/// Sets the time in which a certificate is valid. It begins a little earlier than asked, since clocks differ.
fn set_validity(params: &mut rcgen::CertificateParams, from: Timestamp, until: Timestamp) {
    const SKEW: i64 = 300;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let after = |seconds: i64| std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    params.not_before = epoch + after(from.as_second() - SKEW);
    params.not_after = epoch + after(until.as_second());
}
