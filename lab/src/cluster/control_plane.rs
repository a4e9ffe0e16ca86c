//! etcd and the three Kubernetes servers, as processes in the lab's namespace.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::addresses::{API_PORT, INSIDE, KUBERNETES_SERVICE, NETNS, POD_RANGE, SERVICE_RANGE};
use crate::cluster::api;
use crate::kubeconfig;
use crate::layout::{self, Layout};
use crate::pki::{self, Pair, Subject};
use crate::process::{self, Daemon};
use crate::setup::binaries::Binaries;

/// The parts, in the order in which they are stopped: the API server hangs for
/// a minute when etcd goes first.
pub const PARTS: [&str; 4] = ["kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"];

/// The API server's URL, from the machine and from pods alike.
pub fn server() -> String {
    format!("https://{INSIDE}:{API_PORT}")
}

/// Makes what certificates and kubeconfigs are missing.
pub fn credentials(layout: &Layout) -> Result<()> {
    let pki = layout.pki();
    let ca = kept(&pki, "ca", || pki::ca("airdock-lab"))?;
    kept(&pki, "sa", pki::token_keys)?;
    let names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        .into_iter()
        .map(str::to_owned)
        .chain(["kubernetes.default.svc.cluster.local".to_owned()])
        .collect();
    let addresses: [IpAddr; 3] = [INSIDE.into(), KUBERNETES_SERVICE.into(), [127, 0, 0, 1].into()];
    let serving = Subject { name: "kube-apiserver", group: None, names: &names, addresses: &addresses };
    kept(&pki, "apiserver", || pki::leaf(&ca, &serving))?;
    for (file, name) in [("kubelet-client", "kube-apiserver-kubelet-client"), ("front-proxy", "front-proxy-client")] {
        client(&pki, &ca, file, name, None)?;
    }
    for (file, name, group) in [
        ("admin", "lab-admin", Some("system:masters")),
        ("controller-manager", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
        ("proxy", "system:kube-proxy", None),
    ] {
        let pair = client(&pki, &ca, file, name, group)?;
        let text = kubeconfig::inline("airdock-lab", &server(), &ca.cert, &pair)?;
        layout::write(&pki.join(format!("{file}.kubeconfig")), text.as_bytes(), true)?;
        if file == "admin" {
            layout::write(&layout.host_kubeconfig(), text.as_bytes(), true)?;
        }
    }
    Ok(())
}

/// Makes a node's certificate and kubeconfig.
pub fn node_credentials(layout: &Layout, node: &str, address: IpAddr) -> Result<()> {
    let pki = layout.pki();
    let ca = kept(&pki, "ca", || pki::ca("airdock-lab"))?;
    let name = format!("system:node:{node}");
    let names = [node.to_owned()];
    let subject = Subject { name: &name, group: Some("system:nodes"), names: &names, addresses: &[address] };
    let pair = kept(&pki, node, || pki::leaf(&ca, &subject))?;
    let text = kubeconfig::inline("airdock-lab", &server(), &ca.cert, &pair)?;
    layout::write(&pki.join(format!("{node}.kubeconfig")), text.as_bytes(), true)
}

fn client(pki: &Path, ca: &Pair, file: &str, name: &str, group: Option<&str>) -> Result<Pair> {
    kept(pki, file, || pki::leaf(ca, &Subject { name, group, names: &[], addresses: &[] }))
}

/// Reads a pair, or makes and keeps it. The key is written first: a kill in
/// between leaves no certificate, and both are made again.
fn kept(pki: &Path, name: &str, make: impl FnOnce() -> Result<Pair>) -> Result<Pair> {
    let (cert, key) = (pki.join(format!("{name}.crt")), pki.join(format!("{name}.key")));
    if cert.exists() && key.exists() {
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
        return Ok(Pair { cert: read(&cert)?, key: read(&key)? });
    }
    let pair = make()?;
    layout::write(&key, pair.key.as_bytes(), true)?;
    layout::write(&cert, pair.cert.as_bytes(), false)?;
    Ok(pair)
}

/// Starts etcd and the API server, waits for them, then starts the rest.
pub async fn ensure(layout: &Layout, binaries: &Binaries) -> Result<()> {
    start(layout, binaries, "etcd", etcd_args(layout))?;
    start(layout, binaries, "kube-apiserver", apiserver_args(&layout.pki()))?;
    let client = api::client(&layout.host_kubeconfig()).await?;
    process::wait_for(layout, "the host's API server", &["etcd", "kube-apiserver"], Duration::from_secs(90), || {
        api::ready(&client)
    })
    .await?;
    start(layout, binaries, "kube-controller-manager", controller_manager_args(&layout.pki()))?;
    start(layout, binaries, "kube-scheduler", scheduler_args(&layout.pki()))
}

fn start(layout: &Layout, binaries: &Binaries, name: &str, args: Vec<String>) -> Result<()> {
    let daemon = Daemon {
        name: name.to_owned(),
        netns: Some(NETNS.to_owned()),
        program: binaries.path(name)?.to_path_buf(),
        args,
    };
    process::ensure(layout, &daemon).map(|_| ())
}

fn etcd_args(layout: &Layout) -> Vec<String> {
    vec![
        format!("--data-dir={}", layout.etcd().display()),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        // The lab's data is worth less than the disk's time.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn apiserver_args(pki: &Path) -> Vec<String> {
    let file = |name: &str| pki.join(name).display().to_string();
    vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        format!("--secure-port={API_PORT}"),
        format!("--advertise-address={INSIDE}"),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged".into(),
        "--enable-bootstrap-token-auth".into(),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--service-account-key-file={}", file("sa.crt")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
        format!("--kubelet-client-key={}", file("kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--requestheader-client-ca-file={}", file("ca.crt")),
        // One CA signs everything here, so the name decides who may speak for others.
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        format!("--proxy-client-cert-file={}", file("front-proxy.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy.key")),
        "--enable-aggregator-routing".into(),
    ]
}

fn controller_manager_args(pki: &Path) -> Vec<String> {
    let file = |name: &str| pki.join(name).display().to_string();
    vec![
        format!("--kubeconfig={}", file("controller-manager.kubeconfig")),
        format!("--service-account-private-key-file={}", file("sa.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        // The default of 20 a second makes the start alone take five.
        "--kube-api-qps=500".into(),
        "--kube-api-burst=1000".into(),
        // The CNI plugin of each node owns its range.
        "--allocate-node-cidrs=false".into(),
        format!("--cluster-cidr={POD_RANGE}"),
    ]
}

fn scheduler_args(pki: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", pki.join("scheduler.kubeconfig").display()),
        "--leader-elect=false".into(),
        "--kube-api-qps=500".into(),
        "--kube-api-burst=1000".into(),
    ]
}
