//! What must be on the machine before a cluster can start: packages and
//! programs. Idempotent; a warm run only looks.

pub mod binaries;
pub mod packages;

use anyhow::Result;

use crate::layout::Layout;
use crate::progress::Progress;

/// Builds the programs, which everybody may, and then installs the packages. Without root those are named only: the
/// tests need none of them.
pub fn machine(layout: &Layout, progress: &Progress) -> Result<()> {
    programs(layout, progress)?;
    match packages::wanting() {
        Some(wanting) if !packages::is_root() => {
            progress.say(&format!("the lab itself needs packages that only root can install\n{wanting}"));
            Ok(())
        }
        _ => packages::ensure(layout, progress),
    }
}

/// Installs the packages and builds the programs.
pub fn everything(layout: &Layout, progress: &Progress) -> Result<binaries::Binaries> {
    layout.create()?;
    packages::ensure(layout, progress)?;
    programs(layout, progress)
}

/// Builds the programs only: all that a lab on an existing cluster needs.
pub fn programs(layout: &Layout, progress: &Progress) -> Result<binaries::Binaries> {
    layout.create()?;
    let built = binaries::ensure(&layout.logs(), progress)?;
    built.link(&layout.bin())?;
    Ok(built)
}
