//! Classic BPF: the few instructions a system call filter needs, a balanced decision tree, and an interpreter for
//! tests.

/// One instruction in the kernel's layout (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    /// Operation.
    pub(crate) code: u16,
    /// Instructions to skip when a comparison holds.
    pub(crate) jump_true: u8,
    /// Instructions to skip when it does not.
    pub(crate) jump_false: u8,
    /// Operand.
    pub(crate) operand: u32,
}

impl Instruction {
    /// As 8 bytes, for handing over to another process of this machine.
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.code.to_ne_bytes());
        bytes[2] = self.jump_true;
        bytes[3] = self.jump_false;
        bytes[4..].copy_from_slice(&self.operand.to_ne_bytes());
        bytes
    }

    /// Back from 8 bytes.
    pub(crate) const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, jump_true, jump_false, c, d, e, f] = bytes;
        Self { code: u16::from_ne_bytes([a, b]), jump_true, jump_false, operand: u32::from_ne_bytes([c, d, e, f]) }
    }
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Where `struct seccomp_data` holds the call's number.
pub(super) const NUMBER: u32 = 0;
/// Where it holds the architecture.
pub(super) const ARCHITECTURE: u32 = 4;

/// Where it holds the low half of an argument (little-endian machines).
pub(super) const fn argument_low(index: u32) -> u32 {
    16 + 8 * index
}

/// Where it holds the high half of an argument.
pub(super) const fn argument_high(index: u32) -> u32 {
    argument_low(index) + 4
}

const fn plain(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}

/// Loads a word of `struct seccomp_data`.
pub(super) const fn load(offset: u32) -> Instruction {
    plain(LOAD, offset)
}

/// Keeps only these bits of what was loaded.
pub(super) const fn and(mask: u32) -> Instruction {
    plain(AND, mask)
}

/// Ends the program.
pub(super) const fn give(value: u32) -> Instruction {
    plain(RETURN, value)
}

/// Skips instructions when the loaded word equals, or does not equal, the value.
pub(super) const fn if_equal(value: u32, then_skip: u8, else_skip: u8) -> Instruction {
    Instruction { code: JUMP_EQUAL, jump_true: then_skip, jump_false: else_skip, operand: value }
}

/// Skips instructions when the loaded word is at least, or below, the value.
pub(super) const fn if_at_least(value: u32, then_skip: u8, else_skip: u8) -> Instruction {
    Instruction { code: JUMP_AT_LEAST, jump_true: then_skip, jump_false: else_skip, operand: value }
}

/// Skips instructions always.
pub(super) fn jump(skip: usize) -> Instruction {
    plain(JUMP, u32::try_from(skip).unwrap_or(u32::MAX))
}

/// A program that picks a block by the range in which the loaded word lies.
///
/// `ranges` is sorted by start; the first starts at 0, and each reaches to the next.
pub(super) fn tree(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    match ranges {
        [] => Vec::new(),
        [(_, block)] => block.clone(),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let below = tree(low);
            let mut program = Vec::with_capacity(below.len() + 2);
            match u8::try_from(below.len()) {
                Ok(skip) => program.push(if_at_least(high[0].0, skip, 0)),
                Err(_) => {
                    program.push(if_at_least(high[0].0, 0, 1));
                    program.push(jump(below.len()));
                }
            }
            program.extend(below);
            program.extend(tree(high));
            program
        }
    }
}

/// Runs a program over a call, as the kernel would.
#[cfg(test)]
pub(super) fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> Option<u32> {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut at, mut word) = (0_usize, 0_u32);
    loop {
        let instruction = program.get(at)?;
        at += 1;
        let value = instruction.operand;
        let skip = |holds: bool| usize::from(if holds { instruction.jump_true } else { instruction.jump_false });
        match instruction.code {
            LOAD => word = u32::from_le_bytes(data[value as usize..][..4].try_into().ok()?),
            AND => word &= value,
            JUMP => at += value as usize,
            JUMP_EQUAL => at += skip(word == value),
            JUMP_AT_LEAST => at += skip(word >= value),
            RETURN => return Some(value),
            _ => return None,
        }
    }
}
