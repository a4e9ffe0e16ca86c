//! Kubeconfigs: written for the lab's own clusters, rewritten so that those
//! which others made for use inside a cluster work from the machine.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::pki::Pair;

/// A kubeconfig with everything inlined.
pub fn inline(cluster: &str, server: &str, ca: &str, client: &Pair) -> Result<String> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": STANDARD.encode(&client.cert),
            "client-key-data": STANDARD.encode(&client.key),
        }}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": "admin"}}],
        "current-context": cluster,
    });
    serde_saphyr::to_string(&config).context("writing a kubeconfig")
}

/// The Service behind a server URL such as `https://NAME.NAMESPACE.svc:5443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl {
    /// The Service.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// The host as written, which the serving certificate names.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Reads such a URL; `None` for any other host.
pub fn service_url(server: &str) -> Option<ServiceUrl> {
    let uri: http::Uri = server.parse().ok()?;
    let host = uri.host()?;
    let mut labels = host.split('.');
    let (service, namespace) = (labels.next()?, labels.next()?);
    (labels.next()? == "svc").then(|| ServiceUrl {
        service: service.into(),
        namespace: namespace.into(),
        host: host.into(),
        port: uri.port_u16().unwrap_or(443),
    })
}

/// A kubeconfig parsed as far as needed to change its servers, all else kept.
pub struct Kubeconfig(Value);

impl Kubeconfig {
    /// Parses YAML or JSON.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_saphyr::from_str(text).context("reading a kubeconfig")?;
        if value.get("clusters").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            bail!("the kubeconfig names no cluster");
        }
        Ok(Self(value))
    }

    /// The server URLs.
    pub fn servers(&self) -> Vec<String> {
        let clusters = self.0["clusters"].as_array().into_iter().flatten();
        clusters.filter_map(|c| c["cluster"]["server"].as_str().map(str::to_owned)).collect()
    }

    /// The context in use.
    pub fn current_context(&self) -> Option<&str> {
        self.0["current-context"].as_str()
    }

    /// Points every cluster at `server` to `address`, still checking the
    /// certificate against the name that the URL had.
    pub fn redirect(&mut self, server: &str, url: &ServiceUrl, address: &str) {
        for entry in self.0["clusters"].as_array_mut().into_iter().flatten() {
            let cluster = &mut entry["cluster"];
            if cluster["server"] == *server {
                let path = server.parse::<http::Uri>().map(|u| u.path().trim_end_matches('/').to_owned());
                cluster["server"] = format!("https://{address}{}", path.unwrap_or_default()).into();
                if cluster["tls-server-name"].is_null() {
                    cluster["tls-server-name"] = url.host.clone().into();
                }
            }
        }
    }

    /// As YAML.
    pub fn to_yaml(&self) -> Result<String> {
        serde_saphyr::to_string(&self.0).context("writing a kubeconfig")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_urls() {
        let url = |service: &str, namespace: &str, host: &str, port| {
            Some(ServiceUrl { service: service.into(), namespace: namespace.into(), host: host.into(), port })
        };
        for (server, expected) in [
            ("https://a-apiserver.fleet.svc:5443", url("a-apiserver", "fleet", "a-apiserver.fleet.svc", 5443)),
            ("https://a.b.svc.cluster.local", url("a", "b", "a.b.svc.cluster.local", 443)),
            ("https://10.0.0.1:6443", None),
            ("https://api.example.com", None),
            ("not a url", None),
        ] {
            assert_eq!(service_url(server), expected, "{server}");
        }
    }

    #[test]
    fn redirect_keeps_everything_else() {
        let text = "
apiVersion: v1
clusters:
- name: x
  cluster: {server: 'https://a.b.svc:5443/prefix', certificate-authority-data: QQ==}
- name: y
  cluster: {server: 'https://elsewhere'}
users: [{name: u, user: {token: secret}}]
current-context: x
";
        let mut config = Kubeconfig::parse(text).unwrap();
        let server = config.servers().remove(0);
        let url = service_url(&server).unwrap();
        config.redirect(&server, &url, "198.19.4.4:5443");
        let again = Kubeconfig::parse(&config.to_yaml().unwrap()).unwrap();
        assert_eq!(again.servers(), ["https://198.19.4.4:5443/prefix", "https://elsewhere"]);
        let cluster = &again.0["clusters"][0]["cluster"];
        assert_eq!(cluster["tls-server-name"], "a.b.svc");
        assert_eq!(cluster["certificate-authority-data"], "QQ==");
        assert_eq!(again.0["users"][0]["user"]["token"], "secret");
        assert_eq!(again.current_context(), Some("x"));
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused() {
        for text in ["", "[]", "clusters: []", "a: [", "clusters: {}"] {
            assert!(Kubeconfig::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_inlined_kubeconfig_reads_back() {
        let client = Pair { cert: "C".into(), key: "K".into() };
        let text = inline("host", "https://198.18.255.2:6443", "A", &client).unwrap();
        let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("host"));
    }
}
