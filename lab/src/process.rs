//! The lab's long-lived processes: started in their own session inside a
//! network namespace, remembered by pid file, logging to a file.
//!
//! A pid file holds the pid and the process's start time, so that a stale file
//! never points at another process that has got the number since.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::failure::Advice;
use crate::layout::{self, Layout};

/// What to run, where.
pub struct Daemon {
    /// Names the pid file and the log.
    pub name: String,
    /// The network namespace; none means the machine's own.
    pub netns: Option<String>,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// A running process, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z` …
    pub state: char,
    /// Ticks after boot.
    pub started: u64,
}

/// Reads a line of /proc/PID/stat. The command name may hold anything, even
/// closing parentheses, so the fields count from the last one.
pub fn parse_stat(line: &str) -> Option<Stat> {
    let (_, after) = line.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, started })
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a process exists and is not merely waiting to be reaped.
pub fn lives(pid: u32) -> bool {
    stat(pid).is_some_and(|s| !matches!(s.state, 'Z' | 'X'))
}

fn pid_file(layout: &Layout, name: &str) -> PathBuf {
    layout.pids().join(format!("{name}.pid"))
}

/// The pid of a component if it still runs.
pub fn running(layout: &Layout, name: &str) -> Option<u32> {
    let text = fs::read_to_string(pid_file(layout, name)).ok()?;
    let (pid, started) = parse_pid_file(&text)?;
    let now = stat(pid)?;
    (now.started == started && !matches!(now.state, 'Z' | 'X')).then_some(pid)
}

fn parse_pid_file(text: &str) -> Option<(u32, u64)> {
    let (pid, started) = text.trim().split_once(' ')?;
    Some((pid.parse().ok()?, started.parse().ok()?))
}

/// Starts a daemon unless it runs. Says whether it had to.
pub fn ensure(layout: &Layout, daemon: &Daemon) -> Result<bool> {
    if running(layout, &daemon.name).is_some() {
        return Ok(false);
    }
    if let Some(netns) = &daemon.netns {
        // Started by a command that was killed before it could write the pid file.
        let orphans = in_netns(netns)
            .into_iter()
            .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == daemon.program))
            .collect();
        kill_all(&orphans)?;
    }
    let log = layout.log(&daemon.name);
    let out = File::create(&log).with_context(|| format!("opening {}", log.display()))?;
    let err = out.try_clone().context("sharing the log")?;
    // setsid and nsenter replace themselves, so the child's pid is the daemon's.
    let mut command = Command::new("setsid");
    if let Some(netns) = &daemon.netns {
        command.arg("nsenter").arg(format!("--net=/run/netns/{netns}"));
    }
    let child = command
        .arg(&daemon.program)
        .args(&daemon.args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .with_context(|| format!("starting {}", daemon.name))?;
    let pid = child.id();
    let started = stat(pid).map(|s| s.started).unwrap_or_default();
    layout::write(&pid_file(layout, &daemon.name), format!("{pid} {started}\n").as_bytes(), false)?;
    Ok(true)
}

/// Everything that runs in a network namespace, this process excepted.
pub fn in_netns(name: &str) -> BTreeSet<u32> {
    use std::os::unix::fs::MetadataExt;

    let Ok(namespace) = fs::metadata(format!("/run/netns/{name}")) else {
        return BTreeSet::new();
    };
    let same = |pid: u32| {
        fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|meta| meta.ino() == namespace.ino() && meta.dev() == namespace.dev())
    };
    all().into_iter().filter(|pid| *pid != std::process::id() && same(*pid)).collect()
}

/// Every pid there is.
pub fn all() -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Ends a component: asks, waits up to `grace`, then insists.
pub fn stop(layout: &Layout, name: &str, grace: Duration) -> Result<()> {
    if let Some(pid) = running(layout, name) {
        if !grace.is_zero() {
            signal("-TERM", &BTreeSet::from([pid]));
            let asked = Instant::now();
            while asked.elapsed() < grace && running(layout, name).is_some() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if running(layout, name).is_some() {
            kill_all(&BTreeSet::from([pid]))?;
        }
    }
    layout::remove(&pid_file(layout, name))
}

/// Ends processes for good and waits until they are gone.
pub fn kill_all(pids: &BTreeSet<u32>) -> Result<()> {
    let patience = Instant::now();
    loop {
        let left: BTreeSet<u32> = pids.iter().copied().filter(|pid| lives(*pid)).collect();
        if left.is_empty() {
            return Ok(());
        }
        if patience.elapsed() > Duration::from_secs(30) {
            return Err(anyhow!("processes {left:?} do not end").remedy("look at them with ps"));
        }
        signal("-KILL", &left);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(which: &str, pids: &BTreeSet<u32>) {
    // A process that ended in between makes kill complain; that is what we want of it.
    let _ = Command::new("kill")
        .arg(which)
        .args(pids.iter().map(u32::to_string))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// All pid files' names.
pub fn known(layout: &Layout) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(layout.pids())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.strip_suffix(".pid").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// Waits until `probe` says yes, and gives up at once when one of the
/// processes that it depends on has ended.
pub async fn wait_for<F, Fut>(
    layout: &Layout,
    what: &str,
    depends_on: &[&str],
    patience: Duration,
    mut probe: F,
) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let begun = Instant::now();
    loop {
        if probe().await {
            return Ok(());
        }
        if let Some(dead) = depends_on.iter().find(|name| running(layout, name).is_none()) {
            let log = layout.log(dead);
            return Err(anyhow!("{dead} ended while waiting for {what}:\n{}", tail(&log, 5))
                .log(&log)
                .remedy("`airdock-lab up` tries again; `airdock-lab down` clears everything first"));
        }
        if begun.elapsed() > patience {
            let failure = anyhow!("{what} did not come within {} s", patience.as_secs())
                .remedy("`airdock-lab status` shows the parts; `airdock-lab up` tries again");
            return Err(match depends_on.last() {
                Some(name) => failure.log(&layout.log(name)),
                None => failure,
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The last lines of a file, indented.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    all[from..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: &str = "812 (a) b) c) S 1 812 812 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 2 3";

    #[test]
    fn stat_survives_parentheses_in_the_name() {
        assert_eq!(parse_stat(SHELL), Some(Stat { state: 'S', started: 987_654 }));
    }

    #[test]
    fn stat_rejects_what_is_not_one() {
        for bad in ["", "12 (x)", "12 (x) S 1 2", "12 (x) S 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 y"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_process_lives_and_a_pid_file_of_another_start_is_stale() {
        let me = std::process::id();
        assert!(lives(me));
        let layout = Layout::new(&std::env::temp_dir().join(format!("lab-{me}"))).unwrap();
        layout.create().unwrap();
        let started = stat(me).unwrap().started;
        for (content, expected) in [
            (format!("{me} {started}\n"), Some(me)),
            (format!("{me} {}\n", started + 1), None),
            (format!("{me}\n"), None),
            (String::new(), None),
        ] {
            fs::write(pid_file(&layout, "x"), &content).unwrap();
            assert_eq!(running(&layout, "x"), expected, "{content:?}");
        }
        layout::remove(layout.root()).unwrap();
    }

    #[test]
    fn tail_takes_the_last_lines() {
        let file = std::env::temp_dir().join(format!("lab-tail-{}", std::process::id()));
        fs::write(&file, "1\n2\n3\n").unwrap();
        assert_eq!(tail(&file, 2), "    2\n    3");
        assert_eq!(tail(Path::new("/nonexistent"), 2), "");
        fs::remove_file(&file).unwrap();
    }
}
