//! Flags of the commands that look at the space of the store and give it back.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{ByteSize, KeyValue};

// `lap builder`.
#[derive(Debug, Subcommand)]
pub(crate) enum Builder {
    /// Remove build cache
    Prune(PruneCache),
    /// Show what the build cache holds
    Du(DiskUsage),
}

// `lap system`.
#[derive(Debug, Subcommand)]
pub(crate) enum System {
    /// Show what takes space
    Df(SystemUsage),
    /// Remove what is not used
    Prune(PruneSystem),
    /// Show what there is and how it is set up
    Info(Info),
}

// Flags of `lap info`.
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// Show with a Go template; `json` is an object
    #[arg(short, long, value_name = "TEMPLATE", default_value = "", hide_default_value = true)]
    pub(crate) format: String,
}

// Flags of `lap prune` and `lap builder prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneCache {
    /// Remove indexes too, and forget the steps of images that stay
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Only what fits: until=24h, id=..., parents=..., description=..., type=..., inuse, mutable, immutable, shared, private
    #[arg(long = "filter", value_name = "NAME[=VALUE]")]
    pub(crate) filters: Vec<KeyValue>,

    /// Cache that is kept in any case, such as 2gb
    #[arg(long, value_name = "SIZE", alias = "keep-storage")]
    pub(crate) reserved_space: Option<ByteSize>,

    /// Cache above which the least recently used goes
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_used_space: Option<ByteSize>,

    /// Space that shall be free on the disk
    #[arg(long, value_name = "SIZE")]
    pub(crate) min_free_space: Option<ByteSize>,

    /// Tell all about each part that went
    #[arg(long)]
    pub(crate) verbose: bool,
}

// Flags of `lap du` and `lap builder du`.
#[derive(Debug, Args)]
pub(crate) struct DiskUsage {
    /// Only what fits: until=24h, id=..., parents=..., description=..., type=..., inuse, mutable, immutable, shared, private
    #[arg(long = "filter", value_name = "NAME[=VALUE]")]
    pub(crate) filters: Vec<KeyValue>,

    /// Tell all about each part
    #[arg(long)]
    pub(crate) verbose: bool,

    /// `table`, or `json` with an object a line
    #[arg(long, value_name = "FORM", value_parser = form)]
    pub(crate) format: Option<Form>,
}

// Flags of `lap system df`.
#[derive(Debug, Args)]
pub(crate) struct SystemUsage {
    /// Tell about each thing
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// `table`, or `json` with an object a line
    #[arg(long, value_name = "FORM", value_parser = form)]
    pub(crate) format: Option<Form>,
}

// Flags of `lap system prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneSystem {
    /// All images that no container uses, and all build cache
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Only what fits: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long = "filter", value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
}

// Flags of `lap image prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneImages {
    /// All images that no container uses
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Only what fits: dangling=BOOL, until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long = "filter", value_name = "FILTER")]
    pub(crate) filters: Vec<String>,

    /// With --all, so many images of each repository stay, the newest
    #[arg(long, value_name = "NUMBER", requires = "all")]
    pub(crate) keep: Option<usize>,

    /// The newest stay, as long as their files take no more than this together
    #[arg(long, value_name = "SIZE")]
    pub(crate) keep_bytes: Option<ByteSize>,
}

// Flags of `lap container prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneContainers {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Only what fits: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long = "filter", value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
}

/// How a listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
}

pub(super) fn form(text: &str) -> Result<Form, String> {
    match text {
        "table" => Ok(Form::Table),
        "json" | "{{json .}}" => Ok(Form::Json),
        _ => Err(format!("{text:?} is no form here: write table or json")),
    }
}

/// Go's form of a duration: `24h`, `1h30m`, `500ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, Duration::ZERO);
    if text == "0" {
        return Some(total);
    }
    while !rest.is_empty() || total.is_zero() && rest.len() == text.len() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[unit..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [("24h", 86_400.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("500ms", 0.5), ("0", 0.0)] {
            assert_eq!(duration(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "24", "h", "1d", "-1h", "1h30"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
