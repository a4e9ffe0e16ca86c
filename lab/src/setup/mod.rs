//! What must be on the machine before a cluster can start: packages and
//! programs. Idempotent; a warm run only looks.

pub mod binaries;
pub mod packages;

use crate::failure::Result;
use crate::layout::Layout;
use crate::progress::Progress;

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
