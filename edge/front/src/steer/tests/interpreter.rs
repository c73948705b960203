//! Runs a program as the kernel does: in order, with one accumulator, one index and a memory; a load beyond the end of
//! the packet ends it with 0.

use super::super::program::{Instruction, code};

/// What the program returns for `packet`.
pub(super) fn run(program: &[Instruction], packet: &[u8]) -> u32 {
    let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; 16], 0_usize);
    let length = u32::try_from(packet.len()).expect("short");
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let index = usize::try_from(k).expect("small");
        at += 1;
        let jump = |truth: bool| usize::from(if truth { jt } else { jf });
        match code {
            code::LOAD_WORD => match packet.get(index..index + 4) {
                Some(word) => a = u32::from_be_bytes(word.try_into().expect("four")),
                None => return 0,
            },
            code::LOAD_BYTE => match packet.get(index) {
                Some(byte) => a = u32::from(*byte),
                None => return 0,
            },
            code::LOAD_LENGTH => a = length,
            code::LOAD_MEMORY => a = memory[index],
            code::STORE => memory[index] = a,
            code::TO_X => x = a,
            code::ADD_X => a = a.wrapping_add(x),
            code::ADD => a = a.wrapping_add(k),
            code::AND => a &= k,
            code::XOR_X => a ^= x,
            code::MODULO => a %= k,
            code::JUMP_EQUAL => at += jump(a == k),
            code::JUMP_EQUAL_X => at += jump(a == x),
            code::JUMP_AT_LEAST => at += jump(a >= k),
            code::JUMP_SET => at += jump(a & k != 0),
            code::RETURN => return a,
            code::RETURN_CONSTANT => return k,
            other => panic!("no instruction of ours: {other:#x}"),
        }
    }
}
