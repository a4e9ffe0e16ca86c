//! The Secrets in which keys live, one per purpose: what is there and still good is kept, the rest is made anew.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use rcgen::KeyPair;

use super::{Ca, Kubeconfig, Leaf, Pair, PkiError, Replacement, kubeconfig, leaf};

/// Keys of the Secrets' data.
pub mod key {
    /// A certificate.
    pub const CERTIFICATE: &str = "tls.crt";
    /// Its private key.
    pub const PRIVATE_KEY: &str = "tls.key";
    /// The certificate of the CA behind it.
    pub const CA: &str = "ca.crt";
    /// The key that signs the tokens of service accounts.
    pub const TOKEN_SIGNING_KEY: &str = "sa.key";
    /// The key that they are checked with.
    pub const TOKEN_PUBLIC_KEY: &str = "sa.pub";
    /// A kubeconfig.
    pub const KUBECONFIG: &str = "kubeconfig";
}

/// Data of a Secret.
pub type Data = BTreeMap<String, Vec<u8>>;

/// One of the three CAs of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Issuer {
    /// Vouches for the API server, webhooks and clients.
    Main,
    /// Vouches for the API server towards the APIs behind it.
    FrontProxy,
    /// Vouches for etcd and its clients.
    Etcd,
}

/// What a Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A CA.
    Ca {
        /// Which.
        issuer: Issuer,
        /// Its common name.
        common_name: String,
    },
    /// The key pair for the tokens of service accounts.
    TokenKey,
    /// A certificate, its key and the certificate of its CA.
    Certificate {
        /// Who signs it.
        issuer: Issuer,
        /// What it says.
        leaf: Leaf,
    },
    /// A kubeconfig with a client certificate of its own, signed by the main CA.
    Kubeconfig {
        /// Who the client is.
        leaf: Leaf,
        /// Name of the context.
        context: String,
        /// Address of the API server.
        server: String,
    },
}

/// A Secret that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the Secret.
    pub name: String,
    /// What it is for, in one word; unique within an instance.
    pub purpose: String,
    /// What it holds.
    pub content: Content,
}

/// How long certificates live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Hours that a new one is valid.
    pub leaf_hours: i64,
    /// Hours before its end at which it is replaced.
    pub renew_before_hours: i64,
}

/// A certificate and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Purpose of its Secret.
    pub purpose: String,
    /// Name of its Secret.
    pub secret_name: String,
    /// End of its validity.
    pub not_after: Timestamp,
}

/// All keys of an instance, as they are to be.
#[derive(Clone, Default)]
pub struct Keyring {
    /// Data of each Secret, by name.
    pub secrets: BTreeMap<String, Data>,
    /// Every certificate and when it ends, CAs first.
    pub certificates: Vec<CertificateInfo>,
    /// Certificate of each CA.
    pub cas: BTreeMap<Issuer, String>,
    /// Purposes whose content is new, and why.
    pub replaced: Vec<(String, Replacement)>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("secrets", &self.secrets.keys().collect::<BTreeSet<_>>())
            .field("certificates", &self.certificates)
            .field("replaced", &self.replaced)
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// Completes `existing` to what `entries` ask for.
    pub fn complete(
        entries: &[Entry],
        existing: &BTreeMap<String, Data>,
        lifetimes: Lifetimes,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let mut ring = Self::default();
        let cas = ring.cas(entries, existing, now)?;
        for entry in entries {
            let present = existing.get(&entry.name);
            match &entry.content {
                Content::Ca { .. } => {}
                Content::TokenKey => {
                    let data = match present.filter(|data| is_token_key(data)) {
                        Some(data) => only(data, &[key::TOKEN_SIGNING_KEY, key::TOKEN_PUBLIC_KEY]),
                        None => {
                            ring.replaced.push((entry.purpose.clone(), Replacement::Unusable));
                            new_token_key()?
                        }
                    };
                    ring.secrets.insert(entry.name.clone(), data);
                }
                Content::Certificate { issuer, leaf } => {
                    let ca = ca(&cas, *issuer)?;
                    let pair = present.and_then(pair);
                    let pair = ring.current(entry, leaf, pair, ca, lifetimes, now)?;
                    ring.secrets.insert(entry.name.clone(), tls_data(&pair, ca.certificate()));
                }
                Content::Kubeconfig { leaf, context, server } => {
                    let ca = ca(&cas, Issuer::Main)?;
                    let pair = present.and_then(|data| text(data, key::KUBECONFIG)).and_then(kubeconfig::client);
                    let pair = ring.current(entry, leaf, pair, ca, lifetimes, now)?;
                    let config =
                        Kubeconfig { context, user: &leaf.common_name, server, ca: ca.certificate(), client: &pair };
                    let data = Data::from([(key::KUBECONFIG.to_owned(), config.render()?.into_bytes())]);
                    ring.secrets.insert(entry.name.clone(), data);
                }
            }
        }
        Ok(ring)
    }

    fn cas(
        &mut self,
        entries: &[Entry],
        existing: &BTreeMap<String, Data>,
        now: Timestamp,
    ) -> Result<BTreeMap<Issuer, Ca>, PkiError> {
        let mut cas = BTreeMap::new();
        for entry in entries {
            let Content::Ca { issuer, common_name } = &entry.content else { continue };
            let loaded = existing.get(&entry.name).and_then(pair).and_then(|pair| Ca::load(pair).ok());
            let ca = match loaded.filter(|ca| ca.not_after() > now) {
                Some(ca) => ca,
                None => {
                    self.replaced.push((entry.purpose.clone(), Replacement::Unusable));
                    Ca::create(common_name, now)?
                }
            };
            self.secrets.insert(entry.name.clone(), tls_data(ca.pair(), ca.certificate()));
            self.record(entry, ca.not_after());
            self.cas.insert(*issuer, ca.certificate().to_owned());
            cas.insert(*issuer, ca);
        }
        Ok(cas)
    }

    /// The pair that is there while it is good, else a new one.
    fn current(
        &mut self,
        entry: &Entry,
        leaf: &Leaf,
        present: Option<Pair>,
        ca: &Ca,
        lifetimes: Lifetimes,
        now: Timestamp,
    ) -> Result<Pair, PkiError> {
        let Lifetimes { leaf_hours, renew_before_hours } = lifetimes;
        let pair = match (leaf.replacement(present.as_ref(), ca, now, leaf_hours, renew_before_hours), present) {
            (None, Some(pair)) => pair,
            (why, _) => {
                self.replaced.push((entry.purpose.clone(), why.unwrap_or(Replacement::Unusable)));
                ca.issue(leaf, now, leaf_hours)?
            }
        };
        if let Some(details) = leaf::CertificateDetails::read(&pair.certificate) {
            self.record(entry, details.not_after);
        }
        Ok(pair)
    }

    fn record(&mut self, entry: &Entry, not_after: Timestamp) {
        self.certificates.push(CertificateInfo {
            purpose: entry.purpose.clone(),
            secret_name: entry.name.clone(),
            not_after,
        });
    }
}

fn ca(cas: &BTreeMap<Issuer, Ca>, issuer: Issuer) -> Result<&Ca, PkiError> {
    cas.get(&issuer).ok_or(PkiError::Ca { problem: "no entry asks for it" })
}

fn text<'a>(data: &'a Data, key: &str) -> Option<&'a str> {
    std::str::from_utf8(data.get(key)?).ok()
}

fn pair(data: &Data) -> Option<Pair> {
    Some(Pair { certificate: text(data, key::CERTIFICATE)?.to_owned(), key: text(data, key::PRIVATE_KEY)?.to_owned() })
}

fn tls_data(pair: &Pair, ca: &str) -> Data {
    [(key::CERTIFICATE, pair.certificate.as_str()), (key::PRIVATE_KEY, &pair.key), (key::CA, ca)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
        .collect()
}

fn only(data: &Data, keys: &[&str]) -> Data {
    data.iter().filter(|(key, _)| keys.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn is_token_key(data: &Data) -> bool {
    let public = text(data, key::TOKEN_PUBLIC_KEY);
    text(data, key::TOKEN_SIGNING_KEY)
        .and_then(|pem| KeyPair::from_pem(pem).ok())
        .is_some_and(|pair| public == Some(pair.public_key_pem().as_str()))
}

fn new_token_key() -> Result<Data, PkiError> {
    let pair = KeyPair::generate().map_err(PkiError::Generate)?;
    Ok(Data::from([
        (key::TOKEN_SIGNING_KEY.to_owned(), pair.serialize_pem().into_bytes()),
        (key::TOKEN_PUBLIC_KEY.to_owned(), pair.public_key_pem().into_bytes()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Lifetimes = Lifetimes { leaf_hours: 8760, renew_before_hours: 720 };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn entry(purpose: &str, content: Content) -> Entry {
        Entry { name: format!("i-{purpose}"), purpose: purpose.to_owned(), content }
    }

    fn entries(server_name: &str) -> Vec<Entry> {
        vec![
            entry("ca", Content::Ca { issuer: Issuer::Main, common_name: "main".into() }),
            entry("etcd-ca", Content::Ca { issuer: Issuer::Etcd, common_name: "etcd".into() }),
            entry("tokens", Content::TokenKey),
            entry(
                "server",
                Content::Certificate { issuer: Issuer::Main, leaf: Leaf::server("server", [server_name]).unwrap() },
            ),
            entry("etcd", Content::Certificate { issuer: Issuer::Etcd, leaf: Leaf::client("etcd", None) }),
            entry(
                "admin",
                Content::Kubeconfig {
                    leaf: Leaf::client("admin", Some("system:masters")),
                    context: "i".into(),
                    server: "https://i:5443".into(),
                },
            ),
        ]
    }

    fn purposes(ring: &Keyring) -> Vec<&str> {
        ring.replaced.iter().map(|(purpose, _)| purpose.as_str()).collect()
    }

    #[test]
    fn is_stable_once_made() {
        let now = at("2026-01-01T00:00:00Z");
        let first = Keyring::complete(&entries("a"), &BTreeMap::new(), YEAR, now).unwrap();
        assert_eq!(first.secrets.len(), 6);
        assert_eq!(first.certificates.len(), 5);
        assert_eq!(first.secrets["i-etcd"][key::CA], first.cas[&Issuer::Etcd].as_bytes());
        let second = Keyring::complete(&entries("a"), &first.secrets, YEAR, at("2026-11-01T00:00:00Z")).unwrap();
        assert!(second.replaced.is_empty());
        assert_eq!(second.secrets, first.secrets);
        assert_eq!(second.certificates, first.certificates);
        assert!(!format!("{second:?}").contains("PRIVATE"));
    }

    #[test]
    fn replaces_what_ends_and_keeps_the_roots() {
        let first = Keyring::complete(&entries("a"), &BTreeMap::new(), YEAR, at("2026-01-01T00:00:00Z")).unwrap();
        let later = Keyring::complete(&entries("a"), &first.secrets, YEAR, at("2026-12-15T00:00:00Z")).unwrap();
        assert_eq!(purposes(&later), ["server", "etcd", "admin"]);
        assert_eq!(later.secrets["i-ca"], first.secrets["i-ca"]);
        assert_eq!(later.secrets["i-tokens"], first.secrets["i-tokens"]);
    }

    #[test]
    fn a_lost_or_broken_secret_is_made_anew_with_all_that_hangs_on_it() {
        let now = at("2026-01-01T00:00:00Z");
        let first = Keyring::complete(&entries("a"), &BTreeMap::new(), YEAR, now).unwrap();
        for (lost, expected) in [
            ("i-ca", vec!["ca", "server", "admin"]),
            ("i-etcd-ca", vec!["etcd-ca", "etcd"]),
            ("i-tokens", vec!["tokens"]),
            ("i-server", vec!["server"]),
            ("i-admin", vec!["admin"]),
        ] {
            let mut damaged = first.secrets.clone();
            damaged.remove(lost);
            assert_eq!(purposes(&Keyring::complete(&entries("a"), &damaged, YEAR, now).unwrap()), expected);
            let mut damaged = first.secrets.clone();
            damaged.get_mut(lost).unwrap().values_mut().for_each(|value| value.truncate(20));
            assert_eq!(purposes(&Keyring::complete(&entries("a"), &damaged, YEAR, now).unwrap()), expected);
        }
    }

    #[test]
    fn new_names_and_addresses_reach_the_secrets() {
        let now = at("2026-01-01T00:00:00Z");
        let first = Keyring::complete(&entries("a"), &BTreeMap::new(), YEAR, now).unwrap();
        let renamed = Keyring::complete(&entries("b"), &first.secrets, YEAR, now).unwrap();
        assert_eq!(renamed.replaced, [("server".to_owned(), Replacement::Content)]);
        let mut moved = entries("a");
        if let Content::Kubeconfig { server, .. } = &mut moved[5].content {
            *server = "https://elsewhere:5443".into();
        }
        let moved = Keyring::complete(&moved, &first.secrets, YEAR, now).unwrap();
        assert!(moved.replaced.is_empty(), "the client certificate stays");
        assert!(text(&moved.secrets["i-admin"], key::KUBECONFIG).unwrap().contains("https://elsewhere:5443"));
    }
}
