//! Running other programs to completion.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

/// Runs a program, returns what it printed, and fails with its complaint.
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String> {
    let shown = || {
        let args: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy().into_owned()).collect();
        format!("{program} {}", args.join(" "))
    };
    let command = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = command.with_context(|| format!("running {}", shown()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(anyhow!("{} ended with {}: {}", shown(), output.status, complaint.trim()))
}

/// As [`run`], on a thread where waiting is allowed.
pub async fn run_async<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String> {
    let program = program.to_owned();
    let args: Vec<_> = args.iter().map(|a| a.as_ref().to_os_string()).collect();
    blocking(move || run(&program, &args)).await
}

/// Runs blocking work without holding up the other steps.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("waiting for a step")?
}

/// Where a program is, looking in the system's own folders too, which a plain
/// user's PATH often lacks.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/go/bin"].map(Into::into))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}
