//! Docker's default profile as a program: which calls pass, which are refused, and with which error.

use super::bpf::{
    ARCHITECTURE, Instruction, NUMBER, and, argument_high, argument_low, give, if_at_least, if_equal, jump, load, tree,
};
use super::table::{NONE, SYSCALLS};

/// When a call passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Always.
    Always,
    /// When the command may have one of these capabilities.
    Caps(u64),
    /// For the protocol families Docker names: not AF_ALG, AF_VSOCK and others nobody needs.
    Socket,
    /// For the execution domains Docker names.
    Personality,
    /// Without flags that make namespaces.
    Clone,
    /// Refused as unknown, so that libraries fall back to `clone`, whose flags can be seen.
    Clone3,
}

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = ERRNO | 1;
const ENOSYS: u32 = ERRNO | 38;

const CAP_SYS_ADMIN: u64 = 1 << 21;
/// CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Families that pass, as sorted ranges: below 12, then those Docker lists.
const FAMILIES: [(u32, u32); 8] = [(0, 11), (13, 18), (21, 22), (24, 24), (26, 33), (35, 36), (39, 39), (41, 45)];

/// Bit of an x32 call number.
const X32: u32 = 0x4000_0000;

/// The call tables a program of this machine may use: audit architecture and column of the table.
#[cfg(target_arch = "x86_64")]
const TABLES: [(u32, usize); 2] = [(0xc000_003e, 0), (0x4000_0003, 1)];
#[cfg(target_arch = "aarch64")]
const TABLES: [(u32, usize); 2] = [(0xc000_00b7, 2), (0x4000_0028, 3)];

/// The program for a command that may have these capabilities.
pub(super) fn compile(capabilities: u64) -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    for (architecture, column) in TABLES {
        let mut section = vec![load(NUMBER)];
        if column == 0 {
            // The x32 table is refused whole: nobody uses it, and it is one more way past a number.
            section.extend([if_at_least(X32, 0, 1), give(ENOSYS)]);
        }
        section.extend(tree(&ranges(column, capabilities)));
        // A section is longer than a conditional jump reaches.
        program.push(if_equal(architecture, 1, 0));
        program.push(jump(section.len()));
        program.extend(section);
    }
    program.push(give(EPERM));
    program
}

/// What happens in each range of call numbers.
fn ranges(column: usize, capabilities: u64) -> Vec<(u32, Vec<Instruction>)> {
    let mut calls: Vec<(u32, Vec<Instruction>)> = SYSCALLS
        .iter()
        .filter(|(_, _, numbers)| numbers[column] != NONE)
        .map(|(_, rule, numbers)| (numbers[column], block(*rule, capabilities)))
        .collect();
    calls.sort_by_key(|(number, _)| *number);
    let refused = vec![give(EPERM)];
    let mut ranges: Vec<(u32, Vec<Instruction>)> = vec![(0, refused.clone())];
    for (number, block) in calls {
        for (start, what) in [(number, block), (number + 1, refused.clone())] {
            if ranges.last().is_some_and(|(last, _)| *last == start) {
                ranges.pop();
            }
            if ranges.last().is_none_or(|(_, last)| *last != what) {
                ranges.push((start, what));
            }
        }
    }
    ranges
}

fn block(rule: Rule, capabilities: u64) -> Vec<Instruction> {
    let verdict = |passes: bool| vec![give(if passes { ALLOW } else { EPERM })];
    match rule {
        Rule::Always => verdict(true),
        Rule::Caps(any) => verdict(capabilities & any != 0),
        Rule::Socket => socket(),
        Rule::Personality => personality(),
        Rule::Clone | Rule::Clone3 if capabilities & CAP_SYS_ADMIN != 0 => verdict(true),
        Rule::Clone => {
            vec![load(argument_low(0)), and(CLONE_NAMESPACES), if_equal(0, 0, 1), give(ALLOW), give(EPERM)]
        }
        Rule::Clone3 => vec![give(ENOSYS)],
    }
}

/// The kernel reads 32 bits of the family; a dirty upper half is refused as libseccomp's comparison does.
fn socket() -> Vec<Instruction> {
    let mut families: Vec<(u32, Vec<Instruction>)> = Vec::new();
    for (first, last) in FAMILIES {
        families.push((first, vec![give(ALLOW)]));
        families.push((last + 1, vec![give(EPERM)]));
    }
    let mut program = upper_half_is_zero(0);
    program.extend(tree(&families));
    program
}

fn personality() -> Vec<Instruction> {
    let mut program = upper_half_is_zero(0);
    for domain in PERSONALITIES {
        program.extend([if_equal(domain, 0, 1), give(ALLOW)]);
    }
    program.push(give(EPERM));
    program
}

/// Refuses a wide argument, then leaves its low half loaded.
fn upper_half_is_zero(argument: u32) -> Vec<Instruction> {
    vec![load(argument_high(argument)), if_equal(0, 1, 0), give(EPERM), load(argument_low(argument))]
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::super::bpf::run;
    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    const DOCKER: u64 = 0xa804_25fb;

    fn verdict(capabilities: u64, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        run(&compile(capabilities), architecture, number, arguments).unwrap_or_default()
    }

    #[test]
    fn every_call_of_the_table_meets_its_rule_and_no_other_passes() {
        for capabilities in [0, DOCKER, u64::MAX] {
            let program = compile(capabilities);
            assert!(program.len() < 4096, "{} instructions", program.len());
            for (architecture, column) in TABLES {
                for number in 0..600 {
                    let rule = SYSCALLS.iter().find(|(_, _, numbers)| numbers[column] == number);
                    let expected = match rule.map(|(_, rule, _)| *rule) {
                        None => EPERM,
                        Some(Rule::Always | Rule::Socket | Rule::Personality | Rule::Clone) => ALLOW,
                        Some(Rule::Caps(any)) if capabilities & any != 0 => ALLOW,
                        Some(Rule::Caps(_)) => EPERM,
                        Some(Rule::Clone3) if capabilities & CAP_SYS_ADMIN != 0 => ALLOW,
                        Some(Rule::Clone3) => ENOSYS,
                    };
                    assert_eq!(run(&program, architecture, number, [0; 6]), Some(expected), "{number} {rule:?}");
                }
            }
        }
    }

    #[test]
    fn foreign_architectures_and_x32_are_refused() {
        assert_eq!(verdict(DOCKER, 0xdead_beef, 0, [0; 6]), EPERM);
        assert_eq!(verdict(DOCKER, X86_64, X32 | 1, [0; 6]), ENOSYS);
        assert_eq!(verdict(DOCKER, X86_64, u32::MAX, [0; 6]), ENOSYS);
        assert_eq!(verdict(DOCKER, I386, 26, [0; 6]), ALLOW, "ptrace of i386");
        assert_eq!(verdict(DOCKER, I386, 21, [0; 6]), EPERM, "mount of i386");
    }

    #[test]
    fn arguments_are_looked_at() {
        let socket = |family: u64| verdict(DOCKER, X86_64, 41, [family, 0, 0, 0, 0, 0]);
        for allowed in [1, 2, 10, 16, 17, 44] {
            assert_eq!(socket(allowed), ALLOW, "family {allowed}");
        }
        for refused in [12, 19, 38, 40, 46, 1 << 32, (1 << 32) | 2] {
            assert_eq!(socket(refused), EPERM, "family {refused}");
        }
        let clone = |flags: u64| verdict(DOCKER, X86_64, 56, [flags, 0, 0, 0, 0, 0]);
        assert_eq!(clone(0x11), ALLOW);
        for flag in [0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_eq!(clone(flag), EPERM, "flag {flag:#x}");
        }
        assert_eq!(verdict(DOCKER, X86_64, 135, [8, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(verdict(DOCKER, X86_64, 135, [0x0040_0000, 0, 0, 0, 0, 0]), EPERM, "ADDR_NO_RANDOMIZE");
    }
}
