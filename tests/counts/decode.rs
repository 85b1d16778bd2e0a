//! Tells atomic read-modify-writes and fences among x86-64 instructions. The rest needs no
//! decoding.

/// What an instruction does, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Other,
    Rmw,
    Fence,
}

/// Classifies the instruction that `code` starts with.
///
/// Source: Intel 64 and IA-32 manual, volume 2: prefixes in 2.1.1, ModR/M in table 2-2, and the
/// pages of LOCK, XCHG and MFENCE.
pub(crate) fn classify(code: &[u8]) -> Class {
    let at = |i: usize| code.get(i).copied().unwrap_or(0);
    let mut i = 0;
    let mut locked = false;
    while matches!(
        at(i),
        0xF0 | 0xF2 | 0xF3 | 0x2E | 0x36 | 0x3E | 0x26 | 0x64 | 0x65 | 0x66 | 0x67
    ) {
        locked |= at(i) == 0xF0;
        i += 1;
    }
    // REX; a VEX prefix is no opcode of those below.
    i += usize::from(matches!(at(i), 0x40..=0x4F));
    let (opcode, modrm, sib) = (at(i), at(i + 1), at(i + 2));
    let (mode, reg, rm) = (modrm >> 6, (modrm >> 3) & 7, modrm & 7);
    let memory = mode != 3;
    match opcode {
        // A locked OR of something on the stack is how compilers write a fence that is faster than
        // MFENCE.
        0x80 | 0x81 | 0x83 if locked && reg == 1 && memory && rm == 4 && sib & 7 == 4 => {
            Class::Fence
        }
        0x08 | 0x09 if locked && memory && rm == 4 && sib & 7 == 4 => Class::Fence,
        _ if locked => Class::Rmw,
        // XCHG with memory locks without a prefix.
        0x86 | 0x87 if memory => Class::Rmw,
        // LFENCE, MFENCE, SFENCE.
        0x0F if modrm == 0xAE && (0xE8..=0xFF).contains(&sib) => Class::Fence,
        _ => Class::Other,
    }
}

#[test]
fn instructions_are_told_apart() {
    let cases: [(&[u8], Class, &str); 20] = [
        (
            &[0xF0, 0x48, 0x0F, 0xB1, 0x0F],
            Class::Rmw,
            "lock cmpxchg [rdi], rcx",
        ),
        (
            &[0xF0, 0x0F, 0xB1, 0x0F],
            Class::Rmw,
            "lock cmpxchg [rdi], ecx",
        ),
        (
            &[0xF0, 0x4C, 0x0F, 0xC1, 0x07],
            Class::Rmw,
            "lock xadd [rdi], r8",
        ),
        (&[0xF0, 0x48, 0xFF, 0x07], Class::Rmw, "lock inc [rdi]"),
        (
            &[0x66, 0xF0, 0x83, 0x07, 0x01],
            Class::Rmw,
            "lock add word [rdi], 1",
        ),
        (&[0xF0, 0x83, 0x0F, 0x01], Class::Rmw, "lock or [rdi], 1"),
        (
            &[0xF0, 0x83, 0x44, 0x24, 0x08, 0x01],
            Class::Rmw,
            "lock add [rsp+8], 1",
        ),
        (&[0x48, 0x87, 0x07], Class::Rmw, "xchg [rdi], rax"),
        (&[0x86, 0x07], Class::Rmw, "xchg [rdi], al"),
        (&[0x48, 0x87, 0xC7], Class::Other, "xchg rdi, rax"),
        (&[0x66, 0x90], Class::Other, "xchg ax, ax"),
        (&[0xF3, 0x90], Class::Other, "pause"),
        (&[0x0F, 0xAE, 0xF0], Class::Fence, "mfence"),
        (&[0x0F, 0xAE, 0xE8], Class::Fence, "lfence"),
        (
            &[0xF0, 0x83, 0x4C, 0x24, 0xC0, 0x00],
            Class::Fence,
            "lock or [rsp-64], 0",
        ),
        (
            &[0xF0, 0x83, 0x0C, 0x24, 0x00],
            Class::Fence,
            "lock or [rsp], 0",
        ),
        (&[0x0F, 0xAE, 0x38], Class::Other, "clflush [rax]"),
        (
            &[0x48, 0x0F, 0xB1, 0x0F],
            Class::Other,
            "cmpxchg [rdi], rcx, not locked",
        ),
        (
            &[0x48, 0x8B, 0x87, 0x86, 0, 0, 0],
            Class::Other,
            "mov rax, [rdi+0x86]",
        ),
        (&[0xC5, 0xF8, 0x87, 0x07], Class::Other, "a VEX opcode"),
    ];
    for (code, class, text) in cases {
        assert_eq!(classify(code), class, "{text}");
    }
}
