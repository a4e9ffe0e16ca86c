//! Kubeconfigs with everything inline.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Pair, PkiError};

/// What goes into a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubeconfig<'a> {
    /// Name of the context, and of its cluster.
    pub context: &'a str,
    /// Name of the user entry.
    pub user: &'a str,
    /// Address of the API server.
    pub server: &'a str,
    /// Certificate of the CA that the API server's is checked with.
    pub ca: &'a str,
    /// The client's certificate and key.
    pub client: &'a Pair,
}

impl Kubeconfig<'_> {
    /// The kubeconfig as YAML.
    pub fn render(&self) -> Result<String, PkiError> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": self.context,
                "cluster": {
                    "server": self.server,
                    "certificate-authority-data": STANDARD.encode(self.ca),
                },
            }],
            "users": [{
                "name": self.user,
                "user": {
                    "client-certificate-data": STANDARD.encode(&self.client.certificate),
                    "client-key-data": STANDARD.encode(&self.client.key),
                },
            }],
            "contexts": [{ "name": self.context, "context": { "cluster": self.context, "user": self.user } }],
            "current-context": self.context,
        });
        serde_saphyr::to_string(&config).map_err(PkiError::Kubeconfig)
    }
}

/// The client's certificate and key in a kubeconfig that was rendered here.
pub(super) fn client(text: &str) -> Option<Pair> {
    let config: Value = serde_saphyr::from_str(text).ok()?;
    let field = |name| {
        let encoded = config.pointer("/users/0/user")?.get(name)?.as_str()?;
        String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
    };
    Some(Pair { certificate: field("client-certificate-data")?, key: field("client-key-data")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_can_be_read() {
        let pair = Pair { certificate: "CERT\n".into(), key: "KEY\n".into() };
        let text = Kubeconfig {
            context: "east",
            user: "admin",
            server: "https://east-apiserver.ns.svc:5443",
            ca: "CA",
            client: &pair,
        }
        .render()
        .unwrap();
        assert_eq!(client(&text), Some(pair));
        let parsed = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(parsed.current_context.as_deref(), Some("east"));
        assert_eq!(client("users: []"), None);
    }
}
