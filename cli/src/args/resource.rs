//! Limits of RUN steps: `--resource`, and the flags of `docker build` that mean the same.

use std::str::FromStr;

use clap::Args;
use lap_executor::sandbox::Limits;

use super::{ByteSize, fields};

/// What `--resource` knows.
const KNOWN: &str = "memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus and cpuset-mems";

/// One `--resource`: some limits, by Docker's names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Resource(Limits);

impl FromStr for Resource {
    type Err = String;

    /// Reads `memory=512m,cpu-quota=50000`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = Limits::default();
        for (key, value) in fields(text)? {
            let value = value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{key} has no value"))?;
            set(&mut limits, &key, &value)?;
        }
        Ok(Self(limits))
    }
}

fn set(limits: &mut Limits, key: &str, value: &str) -> Result<(), String> {
    // Docker's 0 is no limit.
    let number = || match value.parse::<u64>() {
        Ok(number) => Ok(Some(number).filter(|number| *number != 0)),
        Err(_) => Err(format!("{key}={value}: write a whole number")),
    };
    let size = |value: &str| Ok::<_, String>(Some(value.parse::<ByteSize>()?.0).filter(|size| *size != 0));
    match key {
        "memory" => limits.memory = size(value)?,
        "memory-swap" if value == "-1" => limits.memory_swap = Some(u64::MAX),
        "memory-swap" => limits.memory_swap = size(value)?,
        "cpu-shares" => limits.cpu_shares = number()?,
        "cpu-period" => limits.cpu_period = number()?,
        "cpu-quota" if value == "-1" => limits.cpu_quota = None,
        "cpu-quota" => limits.cpu_quota = number()?,
        "cpuset-cpus" => limits.cpuset = Some(numbers(key, value)?),
        "cpuset-mems" => limits.cpuset_mems = Some(numbers(key, value)?),
        other => return Err(format!("unknown resource {other:?}: known are {KNOWN}")),
    }
    Ok(())
}

/// A list such as `0-2,5`.
fn numbers(key: &str, text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if first <= last)
    };
    match text.split(',').all(is_part) {
        true => Ok(text.to_owned()),
        false => Err(format!("{key}={text}: write numbers and ranges, such as 0-2,5")),
    }
}

// Flags of `docker build` that `--resource` has taken over.
#[derive(Debug, Args)]
pub(crate) struct OldLimits {
    /// Memory and swap together; -1 is unlimited
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, hide = true)]
    memory_swap: Option<String>,

    /// Relative share of processor time
    #[arg(short = 'c', long, value_name = "NUMBER", hide = true)]
    cpu_shares: Option<String>,

    /// Length of the periods of --cpu-quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS", hide = true)]
    cpu_period: Option<String>,

    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true, hide = true)]
    cpu_quota: Option<String>,

    /// Processors
    #[arg(long, value_name = "NUMBERS", hide = true)]
    cpuset_cpus: Option<String>,

    /// Memory nodes
    #[arg(long, value_name = "NUMBERS", hide = true)]
    cpuset_mems: Option<String>,
}

impl OldLimits {
    /// These, and then those of `--resource`: the later of two counts.
    ///
    /// # Errors
    /// Where a value is none.
    pub(crate) fn with(&self, resources: &[Resource], limits: Limits) -> Result<Limits, String> {
        let mut limits = limits;
        for (key, value) in [
            ("memory-swap", &self.memory_swap),
            ("cpu-shares", &self.cpu_shares),
            ("cpu-period", &self.cpu_period),
            ("cpu-quota", &self.cpu_quota),
            ("cpuset-cpus", &self.cpuset_cpus),
            ("cpuset-mems", &self.cpuset_mems),
        ] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                set(&mut limits, key, value).map_err(|error| format!("--{error}"))?;
            }
        }
        for Resource(given) in resources {
            let given = given.clone();
            limits.memory = given.memory.or(limits.memory);
            limits.memory_swap = given.memory_swap.or(limits.memory_swap);
            limits.cpu_shares = given.cpu_shares.or(limits.cpu_shares);
            limits.cpu_period = given.cpu_period.or(limits.cpu_period);
            limits.cpu_quota = given.cpu_quota.or(limits.cpu_quota);
            limits.cpuset = given.cpuset.or(limits.cpuset);
            limits.cpuset_mems = given.cpuset_mems.or(limits.cpuset_mems);
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Only {
        #[command(flatten)]
        old: OldLimits,
        #[arg(long)]
        resource: Vec<Resource>,
    }

    fn limits(args: &[&str]) -> Result<Limits, String> {
        let words = [&["x"], args].concat();
        let only = Only::try_parse_from(words).map_err(|error| error.to_string())?;
        only.old.with(&only.resource, Limits::default())
    }

    #[test]
    fn resources_are_limits_by_dockers_names() {
        let all = "memory=64m,memory-swap=-1,cpu-shares=512,cpu-period=50000,cpu-quota=25000,cpuset-mems=0";
        let expected = Limits {
            memory: Some(64 << 20),
            memory_swap: Some(u64::MAX),
            cpu_shares: Some(512),
            cpu_period: Some(50_000),
            cpu_quota: Some(25_000),
            cpuset: Some("0-1,3".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            ..Limits::default()
        };
        assert_eq!(limits(&["--resource", all, "--resource", "\"cpuset-cpus=0-1,3\""]), Ok(expected.clone()));
        let old = ["--memory-swap=-1", "-c", "512", "--cpu-period=50000", "--cpu-quota=25000", "--cpuset-cpus=0-1,3"];
        let old = [&old[..], &["--cpuset-mems", "0", "--resource", "memory=64m"]].concat();
        assert_eq!(limits(&old), Ok(expected));
        assert_eq!(limits(&["--cpu-quota=-1", "--cpu-shares=0", "--resource", "memory=0"]), Ok(Limits::default()));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for (text, words) in [
            ("memory", "memory has no value"),
            ("memory=much", "is no size"),
            ("cpu-shares=-1", "write a whole number"),
            ("cpuset-cpus=1-0", "write numbers and ranges"),
            ("cpuset-mems=x", "write numbers and ranges"),
            ("gpus=1", "unknown resource \"gpus\": known are memory,"),
        ] {
            assert!(limits(&["--resource", text]).unwrap_err().contains(words), "{text}");
        }
        assert!(limits(&["--cpu-period=x"]).unwrap_err().contains("--cpu-period=x: write a whole number"));
    }
}
