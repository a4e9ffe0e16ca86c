//! Real API servers for integration tests: one etcd, and as many kube-apiservers on loopback as a test wants.
//!
//! Every process hangs on a pipe of the test's: when the test ends, however it ends, they end, and their folders go.

#![allow(dead_code, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod certificates;
pub mod crash;
#[path = "../files/mod.rs"]
pub mod files;
pub mod installation;
pub mod objects;
pub mod operator;

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use airdock::runtime::client::ClientFactory;
use airdock::runtime::kubeconfig::{Connection, Credentials};
use kube::Client;
use rcgen::KeyPair;

use certificates::ServerCertificate;

/// Ports that Linux gives to no outgoing connection (they begin at 32768): one of those could be taken between here and the
/// moment that a server listens on it.
const PORTS: Range<u16> = 12_000..32_000;

/// A port that nobody listens on. Each is given once by a process.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Other test processes begin elsewhere.
    let first = u16::try_from(std::process::id() * 61 % u32::try_from(PORTS.len()).unwrap()).unwrap();
    let candidates = std::iter::repeat_with(|| {
        let nth = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        PORTS.start + nth % (PORTS.end - PORTS.start)
    });
    let mut free = candidates.take(PORTS.len()).filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok());
    free.next().expect("a free port")
}

/// A process that ends with this, or with the test process.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a tool that `make setup` provides; its output goes to a file.
    pub fn start(name: &str, arguments: &[String], log: &Path) -> Self {
        Self::run(&files::program(name), arguments, log)
    }

    /// Starts a program; its output goes to a file.
    pub fn run(program: &Path, arguments: &[String], log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        // The shell waits for its standard input to end, which it does when the test is gone.
        let script = "\"$@\" <&- & child=$!; (read -r _; kill -9 $child) & reader=$!; wait $child; kill $reader";
        let child = Command::new("bash")
            .args(["-c", &format!("exec 3<&0; {}", script.replace("read -r _", "read -r _ <&3")), "harness"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child }
    }

    /// The program's own process id; the shell around it has another.
    pub fn id(&self, program: &Path) -> Option<u32> {
        let shell = self.child.id();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
        let runs_program = |id: &&str| {
            let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).next() == Some(program.as_os_str().as_encoded_bytes())
        };
        children.split_whitespace().find(runs_program)?.parse().ok()
    }

    /// Whether it has not ended by itself.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Ends the process the hard way, and waits until it is gone.
    pub fn kill(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What this test process writes goes under here. Servers in statics are never dropped, so a shell that outlives the
/// test removes it.
fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (path, _) = SCRATCH.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("servers-{}", std::process::id()));
        // Of an earlier process with this number, which ended together with the machine.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        // The servers are killed at the same time, and may still write.
        let script = "read -r _; for _ in 1 2 3 4 5; do rm -rf -- \"$1\" && exit; sleep 1; done";
        let shell = Command::new("bash")
            .args(["-c", script, "sweeper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not to be interrupted together with the test.
            .process_group(0)
            .spawn()
            .unwrap();
        (path, shell)
    });
    path
}

/// A folder that is removed with this.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = scratch().join(format!("{name}-{}", free_port()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An etcd with nothing in it.
pub struct Etcd {
    pub endpoint: String,
    folder: Folder,
    _process: Process,
}

impl Etcd {
    pub fn start() -> Self {
        let folder = Folder::new("etcd");
        let (client, peer) = (free_port(), free_port());
        let endpoint = format!("http://127.0.0.1:{client}");
        let arguments = [
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--listen-client-urls={endpoint}"),
            format!("--advertise-client-urls={endpoint}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            // What a test wrote need not survive a power cut.
            "--unsafe-no-fsync".to_owned(),
            // Benches fill the default of 2 GiB with versions of bindings before the first compaction.
            "--quota-backend-bytes=8589934592".to_owned(),
            "--log-level=error".to_owned(),
        ];
        let process = Process::start("etcd", &arguments, &folder.path().join("log"));
        Self { endpoint, folder, _process: process }
    }
}

/// Token of the administrator of every API server here.
pub const ADMIN: &str = "admin-token";

/// Token of another administrator, to change credentials.
pub const OTHER_ADMIN: &str = "other-token";

/// An etcd and kube-apiservers of these names, which answer.
pub async fn servers<const N: usize>(names: [&str; N]) -> (Etcd, [ApiServer; N]) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let etcd = Etcd::start();
    let mut servers = names.map(|name| ApiServer::start(&etcd, name));
    for server in &mut servers {
        server.ready().await;
    }
    (etcd, servers)
}

/// A kube-apiserver with an empty store of its own.
pub struct ApiServer {
    pub name: String,
    pub address: String,
    pub port: u16,
    pub ca: String,
    arguments: Vec<String>,
    folder: Folder,
    process: Option<Process>,
}

impl ApiServer {
    /// Connections that this process has to it.
    pub fn connections(&self) -> usize {
        let own: HashSet<String> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok()?.to_str().map(ToOwned::to_owned))
            .collect();
        let address: Ipv4Addr = self.address.parse().unwrap();
        let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.octets()), self.port);
        let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
        // The number of the line, local and remote address, state, and after five more fields the inode.
        let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields.filter(|f| f[2] == remote && f[3] == "01" && own.contains(&format!("socket:[{}]", f[9]))).count()
    }

    /// Starts one; [`ApiServer::ready`] waits for it.
    pub fn start(etcd: &Etcd, name: &str) -> Self {
        Self::start_with(etcd, name, &[])
    }

    /// Starts one with further arguments.
    pub fn start_with(etcd: &Etcd, name: &str, more: &[String]) -> Self {
        Self::start_in(etcd, name, ("127.0.0.1", free_port()), |_| more.to_vec())
    }

    /// Starts one at an address, with further arguments that may name files in its folder.
    pub fn start_in(
        etcd: &Etcd,
        name: &str,
        (address, port): (&str, u16),
        more: impl FnOnce(&Path) -> Vec<String>,
    ) -> Self {
        let folder = Folder::new(name);
        let file = |name: &str| folder.path().join(name).display().to_string();
        let ServerCertificate { ca, certificate, key } = certificates::issue(&["127.0.0.1", address]);
        let accounts = KeyPair::generate().unwrap();
        fs::write(file("tls.crt"), certificate.pem()).unwrap();
        fs::write(file("tls.key"), key.serialize_pem()).unwrap();
        fs::write(file("accounts.key"), accounts.serialize_pem()).unwrap();
        fs::write(file("accounts.pub"), accounts.public_key_pem()).unwrap();
        fs::write(
            file("tokens"),
            format!("{ADMIN},admin,admin,system:masters\n{OTHER_ADMIN},other,other,system:masters\n"),
        )
        .unwrap();
        let mut arguments = vec![
            format!("--etcd-servers={}", etcd.endpoint),
            format!("--etcd-prefix=/{name}"),
            format!("--secure-port={port}"),
            format!("--bind-address={address}"),
            format!("--tls-cert-file={}", file("tls.crt")),
            format!("--tls-private-key-file={}", file("tls.key")),
            format!("--token-auth-file={}", file("tokens")),
            "--authorization-mode=RBAC".to_owned(),
            "--anonymous-auth=false".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            // Nothing here is worth a queue: a test wants answers.
            "--enable-priority-and-fairness=false".to_owned(),
            "--profiling=false".to_owned(),
        ];
        arguments.extend(more(folder.path()));
        // Who listens everywhere is asked here.
        let address = if address == "0.0.0.0" { "127.0.0.1" } else { address }.to_owned();
        let mut server = Self { name: name.to_owned(), address, port, ca, arguments, folder, process: None };
        server.restart();
        server
    }

    /// Starts the process again after [`ApiServer::kill`].
    pub fn restart(&mut self) {
        let log = self.folder.path().join("log");
        self.process = Some(Process::start("kube-apiserver", &self.arguments, &log));
    }

    /// Whether it was not killed.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Ends the process.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }

    pub fn connection(&self) -> Connection {
        Connection {
            server: self.url().parse().unwrap(),
            tls_server_name: None,
            certificate_authority: Some(self.ca.clone().into_bytes()),
            credentials: Credentials::Token(ADMIN.to_owned()),
        }
    }

    /// A client of the administrator's. Clients belong to the runtime that they were made in.
    pub fn client(&self) -> Client {
        self.client_of(&ClientFactory::default())
    }

    pub fn client_of(&self, factory: &ClientFactory) -> Client {
        factory.connect(&self.connection()).unwrap()
    }

    /// Writes a kubeconfig of the administrator's to a file.
    pub fn kubeconfig_file(&self) -> PathBuf {
        let path = self.folder.path().join("kubeconfig");
        fs::write(&path, self.kubeconfig()).unwrap();
        path
    }

    /// A kubeconfig of the administrator's.
    pub fn kubeconfig(&self) -> String {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: '{}', certificate-authority-data: {ca}}}}}]\n\
             users: [{{name: u, user: {{token: {ADMIN}}}}}]\n",
            self.url()
        )
    }

    /// Waits until it answers; fails at once when it has ended.
    pub async fn ready(&mut self) {
        let client = self.client();
        let started = Instant::now();
        while let Err(error) = answers(&client).await {
            let alive = self.process.as_mut().is_some_and(Process::is_alive);
            if !alive || started.elapsed() > Duration::from_secs(120) {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                panic!("{} is not ready: {error}\n{}", self.name, tail.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether an API server is up, with the namespaces that it makes by itself.
async fn answers(client: &Client) -> Result<(), kube::Error> {
    for path in ["/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-system"] {
        client.request_text(http::Request::get(path).body(Vec::new()).unwrap()).await?;
    }
    Ok(())
}

/// Tries until something is so, and fails with the last reason when it is not so in time.
pub async fn eventually<T>(what: &str, within: Duration, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(why) if started.elapsed() > within => panic!("{what}: not within {within:?}: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(40)).await,
        }
    }
}
