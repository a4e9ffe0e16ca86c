//! Kubeconfigs from Secrets: only inline certificates, keys and tokens are read. Pure.
//!
//! A kubeconfig can name programs to run and files to read. One that a tenant wrote must never do so with the
//! operator's rights (the class of CVE-2022-24817), so everything but an allow-list of fields is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

/// The longest kubeconfig that is read.
const MAX_BYTES: usize = 256 * 1024;

/// Why a kubeconfig is not usable.
#[derive(thiserror::Error, Debug)]
pub enum KubeconfigError {
    /// It is far too long.
    #[error("kubeconfig has {0} bytes, more than the {MAX_BYTES} that are accepted")]
    TooLong(usize),
    /// It is not YAML of the right shape. The parser's own message is left out: it would quote the text.
    #[error("kubeconfig is not valid YAML of kind Config{0}")]
    Malformed(String),
    /// A field that is not allowed.
    #[error("kubeconfig field {field} is not accepted: {remedy}")]
    Refused {
        /// Path of the field.
        field: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Something is missing.
    #[error("kubeconfig {0}")]
    Missing(String),
    /// A value is wrong.
    #[error("kubeconfig field {field}: {problem}")]
    Invalid {
        /// Path of the field.
        field: String,
        /// What is wrong.
        problem: String,
    },
}

/// How to reach and enter a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// Address of the API server, https.
    pub server: http::Uri,
    /// Name that its certificate must carry, where it is not the server's.
    pub tls_server_name: Option<String>,
    /// Authorities that its certificate may come from, PEM; the system's when absent.
    pub certificate_authority: Option<Vec<u8>>,
    /// Who calls.
    pub credentials: Credentials,
}

/// Who calls.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A bearer token.
    Token(String),
    /// A client certificate and its key, PEM.
    Certificate {
        /// The certificate.
        certificate: Vec<u8>,
        /// The key.
        key: Vec<u8>,
    },
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("server", &self.server).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(..)",
            Self::Certificate { .. } => "Certificate(..)",
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: serde_json::Map<String, Value>,
}

const CLUSTER_FIELDS: &[&str] = &["server", "certificate-authority-data", "tls-server-name"];
const USER_FIELDS: &[&str] = &["token", "client-certificate-data", "client-key-data"];

/// Reads the current context of a kubeconfig.
pub fn parse(bytes: &[u8]) -> Result<Connection, KubeconfigError> {
    if bytes.len() > MAX_BYTES {
        return Err(KubeconfigError::TooLong(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| KubeconfigError::Malformed(" (not UTF-8)".into()))?;
    let file: File = serde_saphyr::from_str(text).map_err(|_| KubeconfigError::Malformed(String::new()))?;
    let context = match (file.current_context.as_str(), file.contexts.as_slice()) {
        ("", [only]) => &only.context,
        ("", _) => return Err(KubeconfigError::Missing("has no current-context: set it".into())),
        (name, contexts) => contexts
            .iter()
            .find(|c| c.name == name)
            .map(|c| &c.context)
            .ok_or_else(|| KubeconfigError::Missing(format!("has no context {name:?}, its current-context")))?,
    };
    let cluster = file
        .clusters
        .iter()
        .find(|c| c.name == context.cluster)
        .map(|c| &c.cluster)
        .ok_or_else(|| KubeconfigError::Missing(format!("has no cluster {:?}", context.cluster)))?;
    let user = file
        .users
        .iter()
        .find(|u| u.name == context.user)
        .map(|u| &u.user)
        .ok_or_else(|| KubeconfigError::Missing(format!("has no user {:?}", context.user)))?;
    only_allowed("clusters[].cluster", cluster, CLUSTER_FIELDS)?;
    only_allowed("users[].user", user, USER_FIELDS)?;
    Ok(Connection {
        server: server(cluster)?,
        tls_server_name: string(cluster, "tls-server-name").map(str::to_owned),
        certificate_authority: decoded("clusters[].cluster", cluster, "certificate-authority-data")?,
        credentials: credentials(user)?,
    })
}

fn only_allowed(path: &str, map: &serde_json::Map<String, Value>, allowed: &[&str]) -> Result<(), KubeconfigError> {
    match map.iter().find(|(key, value)| !allowed.contains(&key.as_str()) && !harmless(key, value)) {
        Some((key, _)) => Err(KubeconfigError::Refused { field: format!("{path}.{key}"), remedy: remedy(key) }),
        None => Ok(()),
    }
}

/// Fields that some tools write with the value that means nothing.
fn harmless(key: &str, value: &Value) -> bool {
    matches!(value, Value::Null)
        || key == "extensions"
        || (matches!(key, "insecure-skip-tls-verify" | "disable-compression") && *value == Value::Bool(false))
}

fn remedy(field: &str) -> &'static str {
    match field {
        "exec" | "auth-provider" => {
            "programs are not run; create a ServiceAccount token or a client certificate and give it inline"
        }
        "tokenFile" => "files are not read; give the token inline as token",
        "client-certificate" | "client-key" => {
            "files are not read; give client-certificate-data and client-key-data (kubectl config view --raw --flatten)"
        }
        "certificate-authority" => {
            "files are not read; give certificate-authority-data (kubectl config view --raw --flatten)"
        }
        "insecure-skip-tls-verify" => "connections without verification are not made; give certificate-authority-data",
        "proxy-url" => "proxies are not supported; give an address that the instance can reach directly",
        "as" | "as-groups" | "as-uid" | "as-user-extra" => {
            "impersonation is not supported; give the identity's own credentials"
        }
        "username" | "password" => "basic authentication is not supported; give a token or a client certificate",
        _ => "remove it",
    }
}

fn string<'a>(map: &'a serde_json::Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn server(cluster: &serde_json::Map<String, Value>) -> Result<http::Uri, KubeconfigError> {
    let invalid = |problem: String| KubeconfigError::Invalid { field: "clusters[].cluster.server".into(), problem };
    let text = string(cluster, "server").ok_or_else(|| invalid("is missing".into()))?;
    let uri: http::Uri = text.parse().map_err(|_| invalid(format!("{text:?} is not an address")))?;
    if uri.scheme_str() != Some("https") {
        return Err(invalid(format!("{text:?} must start with https://")));
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(invalid("must name a host, without user or password".into()));
    }
    Ok(uri)
}

fn decoded(path: &str, map: &serde_json::Map<String, Value>, key: &str) -> Result<Option<Vec<u8>>, KubeconfigError> {
    string(map, key)
        .map(|text| {
            let compact: String = text.split_whitespace().collect();
            STANDARD.decode(compact).map_err(|_| KubeconfigError::Invalid {
                field: format!("{path}.{key}"),
                problem: "is not base64".into(),
            })
        })
        .transpose()
}

fn credentials(user: &serde_json::Map<String, Value>) -> Result<Credentials, KubeconfigError> {
    if let Some(token) = string(user, "token") {
        return Ok(Credentials::Token(token.to_owned()));
    }
    let certificate = decoded("users[].user", user, "client-certificate-data")?;
    let key = decoded("users[].user", user, "client-key-data")?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Credentials::Certificate { certificate, key }),
        _ => Err(KubeconfigError::Missing(
            "has no credentials: give token, or client-certificate-data with client-key-data".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    #[test]
    fn reads_inline_credentials() {
        let text = kubeconfig("server: 'https://10.0.0.1:6443', certificate-authority-data: Y2E=", "token: t");
        let connection = parse(text.as_bytes()).unwrap();
        assert_eq!(connection.server.to_string(), "https://10.0.0.1:6443/");
        assert_eq!(connection.certificate_authority.as_deref(), Some(&b"ca"[..]));
        assert!(connection.credentials == Credentials::Token("t".into()));
        assert!(!format!("{connection:?}").contains("Token(\"t\")"));
    }

    #[test]
    fn refuses_what_would_run_or_read_on_the_operators_behalf() {
        for (cluster, user, field) in [
            ("", "exec: {command: sh}", "users[].user.exec"),
            ("", "auth-provider: {name: gcp}", "users[].user.auth-provider"),
            ("", "tokenFile: /etc/passwd", "users[].user.tokenFile"),
            ("", "client-certificate: /a, client-key: /b", "users[].user.client-certificate"),
            ("", "token: t, as: admin", "users[].user.as"),
            (", certificate-authority: /a", "token: t", "clusters[].cluster.certificate-authority"),
            (", insecure-skip-tls-verify: true", "token: t", "clusters[].cluster.insecure-skip-tls-verify"),
            (", proxy-url: 'http://x'", "token: t", "clusters[].cluster.proxy-url"),
        ] {
            let text = kubeconfig(&format!("server: 'https://h'{cluster}"), user);
            match parse(text.as_bytes()).unwrap_err() {
                KubeconfigError::Refused { field: found, .. } => assert_eq!(found, field),
                other => panic!("{field}: {other}"),
            }
        }
    }

    #[test]
    fn names_what_is_missing_or_wrong() {
        for (text, words) in [
            (kubeconfig("server: 'http://h'", "token: t"), "must start with https://"),
            (kubeconfig("server: 'https://a:b@h'", "token: t"), "without user or password"),
            (kubeconfig("server: 'https://h'", ""), "no credentials"),
            (kubeconfig("server: 'https://h', certificate-authority-data: '?'", "token: t"), "not base64"),
            ("{".to_owned(), "not valid YAML"),
            ("a: b".to_owned(), "no current-context"),
        ] {
            let message = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
