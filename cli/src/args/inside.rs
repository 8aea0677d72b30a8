//! Flags of the commands that look into images.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use lap_cache::image::compare::Aspect;

use super::ByteSize;

// Flags of `lap image tree`.
#[derive(Debug, Args)]
pub(crate) struct Tree {
    /// Files to show of each layer, and of those that are wasted
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 5)]
    pub(crate) top: usize,

    /// Whole commands
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// How it is shown
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: InsideFormat,

    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,

    /// Write a page with a treemap instead, which needs nothing but a browser
    #[arg(long, value_name = "FILE", conflicts_with_all = ["format", "json"])]
    pub(crate) html: Option<PathBuf>,

    /// Fail where more is wasted: bytes such as 10m, or a share such as 5%
    #[arg(long, value_name = "SIZE|PERCENT")]
    pub(crate) max_wasted: Option<Allowance>,

    /// The image
    pub(crate) image: String,
}

// Flags of `lap diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// How it is shown
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: InsideFormat,

    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,

    /// Exit with 1 where something differs
    #[arg(long)]
    pub(crate) exit_code: bool,

    /// Show nothing, as with --exit-code
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// What does not count
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    pub(crate) ignore: Vec<Ignorable>,

    /// A container, or the first image
    #[arg(value_name = "CONTAINER|IMAGE")]
    pub(crate) first: String,

    /// The image to compare with
    #[arg(value_name = "IMAGE")]
    pub(crate) second: Option<String>,
}

/// How something is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InsideFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// What may be left out of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ignorable {
    /// Times of files
    Mtime,
    /// Permissions
    Mode,
    /// Users and groups
    Owner,
    /// Extended attributes
    Xattrs,
}

impl From<Ignorable> for Aspect {
    fn from(what: Ignorable) -> Self {
        match what {
            Ignorable::Mtime => Self::Mtime,
            Ignorable::Mode => Self::Mode,
            Ignorable::Owner => Self::Owner,
            Ignorable::Xattrs => Self::Xattrs,
        }
    }
}

/// How much may be wasted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Allowance {
    /// Bytes.
    Bytes(u64),
    /// Percent of all bytes.
    Percent(f64),
}

impl FromStr for Allowance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.trim().parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
                percent.map(Self::Percent).ok_or_else(|| format!("{text:?} is no share: write 0% to 100%"))
            }
            None => text.parse::<ByteSize>().map(|size| Self::Bytes(size.0)),
        }
    }
}

impl Allowance {
    /// Whether this much is more.
    pub(crate) fn is_exceeded(self, wasted: u64, total: u64) -> bool {
        match self {
            Self::Bytes(most) => wasted > most,
            #[expect(clippy::cast_precision_loss, reason = "a share of bytes")]
            Self::Percent(most) => wasted as f64 * 100.0 > most * total as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowances_are_bytes_or_shares() {
        assert_eq!("5%".parse(), Ok(Allowance::Percent(5.0)));
        assert_eq!("10k".parse(), Ok(Allowance::Bytes(10 << 10)));
        for bad in ["", "x", "%", "-1%", "101%", "NaN%"] {
            assert!(bad.parse::<Allowance>().is_err(), "{bad}");
        }
        assert!(Allowance::Percent(5.0).is_exceeded(51, 1000) && !Allowance::Percent(5.0).is_exceeded(50, 1000));
        assert!(Allowance::Bytes(5).is_exceeded(6, 1000) && !Allowance::Bytes(5).is_exceeded(5, 1000));
        assert!(!Allowance::Percent(0.0).is_exceeded(0, 0));
    }
}
