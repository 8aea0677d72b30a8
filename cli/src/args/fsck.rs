//! Flags of `lap fsck`.

use clap::Args;

use super::Form;

// Flags of `lap fsck`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes are those of fsck(8): 0 nothing is wrong, 1 what was wrong is mended, 4 something \
                        wrong is left, 8 the store could not be checked.")]
pub(crate) struct Fsck {
    /// Read and hash every blob and every layer
    #[arg(long)]
    pub(crate) deep: bool,

    /// Remove or set aside what is broken, so that the next build makes it again
    #[arg(long)]
    pub(crate) repair: bool,

    /// `table`, or `json`, which is one object
    #[arg(long, value_name = "FORM", value_parser = super::prune::form)]
    pub(crate) format: Option<Form>,
}
