//! Where the lab keeps its files, and the lock that keeps two commands apart.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::failure::Advice;

/// Sockets and containerd's short-lived state; gone after a reboot.
pub const RUN: &str = "/run/airdock-lab";
/// Unix socket paths end at 107 bytes, and a kubelet's longest adds 46 to ours.
const LONGEST_FOLDER: usize = 60;

/// The lab's folder, `.lab` unless told otherwise.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The folder as an absolute path; it need not exist.
    pub fn new(dir: &Path) -> Result<Self> {
        let root = std::path::absolute(dir).with_context(|| format!("resolving {}", dir.display()))?;
        if root.as_os_str().len() > LONGEST_FOLDER {
            return Err(anyhow!("{} is too long a path for the sockets beneath it", root.display())
                .remedy(format!("choose a folder of at most {LONGEST_FOLDER} characters with --dir")));
        }
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Links to kubectl, helm and the rest.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }
    /// Pid files.
    pub fn pids(&self) -> PathBuf {
        self.root.join("run")
    }
    /// Logs of the processes and steps.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
    /// One component's log.
    pub fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }
    /// Certificates, keys and the components' own kubeconfigs.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }
    /// The host cluster's database.
    pub fn etcd(&self) -> PathBuf {
        self.root.join("etcd")
    }
    /// What the lab was asked to be.
    pub fn state(&self) -> PathBuf {
        self.root.join("lab.json")
    }
    /// One node's files.
    pub fn node(&self, name: &str) -> PathBuf {
        self.root.join("nodes").join(name)
    }
    /// All nodes' files.
    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }
    /// One node's containerd socket.
    pub fn containerd_socket(&self, node: &str) -> PathBuf {
        Path::new(RUN).join(node).join("containerd.sock")
    }
    /// The host cluster's administrator.
    pub fn host_kubeconfig(&self) -> PathBuf {
        self.root.join("host.kubeconfig")
    }
    /// The members' administrators.
    pub fn members(&self) -> PathBuf {
        self.root.join("members")
    }
    /// One member's administrator.
    pub fn member_kubeconfig(&self, name: &str) -> PathBuf {
        self.members().join(format!("{name}.kubeconfig"))
    }
    /// The instances' administrators, written by the exporter.
    pub fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }
    /// Directories behind persistent volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }
    /// What the exporter serves over HTTP.
    pub fn bundle(&self) -> PathBuf {
        self.root.join("bundle")
    }

    /// Makes the folders that other steps write into.
    pub fn create(&self) -> Result<()> {
        for dir in [
            self.bin(),
            self.pids(),
            self.logs(),
            self.pki(),
            self.members(),
            self.instances(),
            self.volumes(),
            self.bundle(),
        ] {
            make_dir(&dir)?;
        }
        Ok(())
    }

    /// Waits for other commands on the same lab; released when dropped.
    /// `up` and `down` hold it alone, commands on a running lab share it.
    pub fn lock(&self, alone: bool) -> Result<File> {
        make_dir(&self.root)?;
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        let taken = if alone { file.lock() } else { file.lock_shared() };
        taken.with_context(|| format!("locking {}", path.display()))?;
        Ok(file)
    }
}

/// `mkdir -p` with a message.
pub fn make_dir(dir: &Path) -> Result<()> {
    let made = fs::create_dir_all(dir);
    let denied = made.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    let made = made.with_context(|| format!("making {}", dir.display()));
    if denied { made.remedy("run as root, or choose another folder with --dir") } else { made }
}

/// Writes a file whole or not at all, so that a kill in between leaves the old
/// one, and only when it differs. `secret` files are readable by their owner.
pub fn write(path: &Path, content: &[u8], secret: bool) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let mode = if secret { 0o600 } else { 0o644 };
    let written = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&temporary, path));
    written.with_context(|| format!("writing {}", path.display()))
}

/// `rm -rf` that does not mind when there is nothing.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.with_context(|| format!("removing {}", path.display()))
}
