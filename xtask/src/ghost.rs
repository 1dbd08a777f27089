//! placeholder
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn ghost(_a: &Args) -> anyhow::Result<()> {
    Ok(())
}
