//! placeholder
use std::path::Path;
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn demo(_r: &Path, _a: &Args) -> anyhow::Result<()> {
    Ok(())
}
