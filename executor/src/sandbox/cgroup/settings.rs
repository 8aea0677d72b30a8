//! Limits as files of a control group.

use super::super::spec::Limits;
use super::super::{DEFAULT_PIDS, SandboxError};

/// Period of processor quotas in microseconds, Docker's.
const PERIOD: u64 = 100_000;
/// Shortest period and smallest quota that the kernel takes, in microseconds.
const SHORTEST: u64 = 1000;
/// Longest period that the kernel takes, in microseconds.
const LONGEST: u64 = 1_000_000;

/// A file to write in a group's directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Whether the user asked for it, so that failure is an error.
    pub(super) asked: bool,
}

/// Whether a setting may fail: swap accounting is often off.
pub(super) const fn optional(setting: &Setting) -> bool {
    !setting.asked
}

/// What to write for a controller.
pub(super) fn settings(limits: &Limits, controller: &'static str, v1: bool) -> Result<Vec<Setting>, SandboxError> {
    let setting = |file: &'static str, value: String, asked: bool| Setting { controller, file, value, asked };
    let mut all = Vec::new();
    match controller {
        "pids" => match limits.pids {
            None => all.push(setting("pids.max", DEFAULT_PIDS.to_string(), false)),
            Some(0) => {}
            Some(pids) => all.push(setting("pids.max", pids.to_string(), true)),
        },
        "cpuset" => {
            if let Some(cpus) = &limits.cpuset {
                all.push(setting("cpuset.cpus", cpus.clone(), true));
            }
            if let Some(nodes) = &limits.cpuset_mems {
                all.push(setting("cpuset.mems", nodes.clone(), true));
            }
        }
        "cpu" => {
            if let Some((quota, period)) = quota(limits)? {
                if v1 {
                    all.push(setting("cpu.cfs_period_us", period.to_string(), true));
                    all.extend(quota.map(|quota| setting("cpu.cfs_quota_us", quota.to_string(), true)));
                } else {
                    let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                    all.push(setting("cpu.max", format!("{quota} {period}"), true));
                }
            }
            if let Some(shares) = limits.cpu_shares {
                let shares = shares.clamp(2, 262_144);
                all.push(if v1 {
                    setting("cpu.shares", shares.to_string(), true)
                } else {
                    // The conversion of runc and crun.
                    setting("cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string(), true)
                });
            }
        }
        _ => memory(limits, v1, &setting, &mut all)?,
    }
    Ok(all)
}

/// Processor time and the period it is of, both in microseconds; no quota is no limit.
fn quota(limits: &Limits) -> Result<Option<(Option<u64>, u64)>, SandboxError> {
    let refuse = |reason: &str| Err(SandboxError::Limit { limit: "cpu", reason: reason.to_owned() });
    match (limits.nano_cpus, limits.cpu_quota, limits.cpu_period) {
        (None, None, None) => Ok(None),
        (Some(cpus), None, None) => {
            let quota = u128::from(cpus) * u128::from(PERIOD) / 1_000_000_000;
            Ok(Some((Some(u64::try_from(quota).unwrap_or(u64::MAX).max(SHORTEST)), PERIOD)))
        }
        (Some(_), ..) => refuse("a number of processors and a quota or period exclude each other"),
        (None, _, Some(period)) if !(SHORTEST..=LONGEST).contains(&period) => {
            refuse("a period has 1000 to 1000000 microseconds")
        }
        (None, Some(quota), _) if quota < SHORTEST => refuse("a quota has 1000 microseconds at least"),
        (None, quota, period) => Ok(Some((quota, period.unwrap_or(PERIOD)))),
    }
}

fn memory(
    limits: &Limits,
    v1: bool,
    setting: &dyn Fn(&'static str, String, bool) -> Setting,
    all: &mut Vec<Setting>,
) -> Result<(), SandboxError> {
    let Some(memory) = limits.memory else {
        if limits.memory_swap.is_some() {
            return Err(SandboxError::Limit {
                limit: "memory and swap",
                reason: "a memory limit is needed too".to_owned(),
            });
        }
        return Ok(());
    };
    // Docker's default: as much swap as memory.
    let asked = limits.memory_swap.is_some();
    let total = limits.memory_swap.unwrap_or_else(|| memory.saturating_mul(2));
    if total < memory {
        return Err(SandboxError::Limit {
            limit: "memory and swap",
            reason: format!("{total} bytes together are less than the {memory} of memory alone"),
        });
    }
    let unlimited = total == u64::MAX;
    if v1 {
        all.push(setting("memory.limit_in_bytes", memory.to_string(), true));
        let total = if unlimited { "-1".to_owned() } else { total.to_string() };
        all.push(setting("memory.memsw.limit_in_bytes", total, asked));
    } else {
        all.push(setting("memory.max", memory.to_string(), true));
        let swap = if unlimited { "max".to_owned() } else { (total - memory).to_string() };
        all.push(setting("memory.swap.max", swap, asked));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files() {
        let limits = Limits {
            memory: Some(64 << 20),
            nano_cpus: Some(1_500_000_000),
            cpu_shares: Some(1024),
            cpuset: Some("0-1".to_owned()),
            ..Limits::default()
        };
        let files = |controller, v1| -> Vec<(&str, String)> {
            settings(&limits, controller, v1).unwrap().into_iter().map(|one| (one.file, one.value)).collect()
        };
        assert_eq!(
            files("memory", true),
            [("memory.limit_in_bytes", "67108864".to_owned()), ("memory.memsw.limit_in_bytes", "134217728".to_owned())]
        );
        assert_eq!(
            files("memory", false),
            [("memory.max", "67108864".to_owned()), ("memory.swap.max", "67108864".to_owned())]
        );
        assert_eq!(files("cpu", false), [("cpu.max", "150000 100000".to_owned()), ("cpu.weight", "39".to_owned())]);
        assert_eq!(files("cpu", true)[1], ("cpu.cfs_quota_us", "150000".to_owned()));
        assert_eq!(files("pids", true), [("pids.max", DEFAULT_PIDS.to_string())]);
        assert_eq!(files("cpuset", true), [("cpuset.cpus", "0-1".to_owned())]);
    }

    #[test]
    fn quotas_have_periods_and_nodes_are_files_too() {
        let files = |limits: &Limits, controller, v1| -> Vec<(&str, String)> {
            settings(limits, controller, v1).unwrap().into_iter().map(|one| (one.file, one.value)).collect()
        };
        let both = Limits { cpu_period: Some(50_000), cpu_quota: Some(25_000), ..Limits::default() };
        assert_eq!(files(&both, "cpu", false), [("cpu.max", "25000 50000".to_owned())]);
        assert_eq!(
            files(&both, "cpu", true),
            [("cpu.cfs_period_us", "50000".to_owned()), ("cpu.cfs_quota_us", "25000".to_owned())]
        );
        let quota = Limits { cpu_quota: Some(25_000), ..Limits::default() };
        assert_eq!(files(&quota, "cpu", false), [("cpu.max", "25000 100000".to_owned())]);
        let period = Limits { cpu_period: Some(50_000), ..Limits::default() };
        assert_eq!(files(&period, "cpu", false), [("cpu.max", "max 50000".to_owned())]);
        assert_eq!(files(&period, "cpu", true), [("cpu.cfs_period_us", "50000".to_owned())]);
        let nodes = Limits { cpuset_mems: Some("0".to_owned()), ..Limits::default() };
        assert_eq!(files(&nodes, "cpuset", true), [("cpuset.mems", "0".to_owned())]);
        assert_eq!(files(&nodes, "cpuset", false), [("cpuset.mems", "0".to_owned())]);
    }

    #[test]
    fn nonsense_is_refused() {
        let swap_only = Limits { memory_swap: Some(1), ..Limits::default() };
        assert!(settings(&swap_only, "memory", true).is_err());
        let less = Limits { memory: Some(2), memory_swap: Some(1), ..Limits::default() };
        assert!(settings(&less, "memory", false).is_err());
        for cpu in [
            Limits { nano_cpus: Some(1), cpu_quota: Some(5000), ..Limits::default() },
            Limits { cpu_period: Some(999), ..Limits::default() },
            Limits { cpu_period: Some(1_000_001), ..Limits::default() },
            Limits { cpu_quota: Some(999), ..Limits::default() },
        ] {
            assert!(settings(&cpu, "cpu", true).is_err(), "{cpu:?}");
        }
    }
}
