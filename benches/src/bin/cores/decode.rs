//! The counted effects of an instruction: its memory, and whether it is atomic, a fence or a call.

use iced_x86::{
    Code, Decoder, DecoderOptions, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
    UsedMemory,
};
use libc::user_regs_struct;

use crate::coherence::{Access, Touch};

/// The kinds of instruction that are distinguished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// An atomic read-modify-write.
    Rmw,
    Fence,
    /// In a spin loop.
    Pause,
    SystemCall,
    /// Reads the time-stamp counter.
    Time,
    /// A breakpoint: the program reports its progress.
    Marker,
}

/// An instruction, decoded once for each place in the program.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    pub(crate) kind: Kind,
    pub(crate) length: u64,
    memory: Vec<(UsedMemory, Access)>,
}

impl Decoded {
    /// Decodes the instruction that `code` starts with and that lies at `address`.
    pub(crate) fn at(address: u64, code: &[u8]) -> Result<Self, String> {
        let instruction = Decoder::with_ip(64, code, address, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return Err(format!("no instruction at {address:#x}: {code:02x?}"));
        }
        let to_memory = (0..instruction.op_count())
            .any(|operand| instruction.op_kind(operand) == OpKind::Memory);
        let to_stack = matches!(instruction.memory_base(), Register::RSP | Register::ESP);
        let kind = match instruction.mnemonic() {
            // A locked OR of something on the stack is how compilers write a fence that is faster
            // than MFENCE.
            Mnemonic::Or if instruction.has_lock_prefix() && to_stack => Kind::Fence,
            Mnemonic::Mfence | Mnemonic::Lfence | Mnemonic::Sfence => Kind::Fence,
            // XCHG with memory locks without a prefix.
            Mnemonic::Xchg if to_memory => Kind::Rmw,
            _ if instruction.has_lock_prefix() => Kind::Rmw,
            Mnemonic::Pause => Kind::Pause,
            Mnemonic::Syscall => Kind::SystemCall,
            Mnemonic::Rdtsc | Mnemonic::Rdtscp => Kind::Time,
            Mnemonic::Int3 => Kind::Marker,
            _ if instruction.code() == Code::Int_imm8 => {
                return Err(format!("an old system call at {address:#x}"));
            }
            _ => Kind::Plain,
        };
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(&instruction);
        let memory = info.used_memory().iter().filter_map(|used| {
            let access = match used.access() {
                OpAccess::Read | OpAccess::CondRead => Access::Read,
                OpAccess::Write
                | OpAccess::CondWrite
                | OpAccess::ReadWrite
                | OpAccess::ReadCondWrite => Access::Write,
                // Addresses that are only computed or prefetched.
                _ => return None,
            };
            Some((*used, access))
        });
        Ok(Self {
            kind,
            length: instruction.len() as u64,
            memory: memory.collect(),
        })
    }

    /// The memory that it touches when the registers are these.
    pub(crate) fn touches(&self, registers: &user_regs_struct) -> impl Iterator<Item = Touch> {
        self.memory.iter().filter_map(|(used, access)| {
            let address = used.virtual_address(0, |register, _, _| value(register, registers))?;
            Some(Touch {
                address,
                bytes: used.memory_size().size() as u64,
                access: *access,
            })
        })
    }
}

/// The value of a register that occurs in addresses.
fn value(register: Register, registers: &user_regs_struct) -> Option<u64> {
    Some(match register {
        // Their base is zero in 64-bit code.
        Register::CS | Register::DS | Register::ES | Register::SS => 0,
        Register::FS => registers.fs_base,
        Register::GS => registers.gs_base,
        Register::RAX => registers.rax,
        Register::RBX => registers.rbx,
        Register::RCX => registers.rcx,
        Register::RDX => registers.rdx,
        Register::RSI => registers.rsi,
        Register::RDI => registers.rdi,
        Register::RBP => registers.rbp,
        Register::RSP => registers.rsp,
        Register::R8 => registers.r8,
        Register::R9 => registers.r9,
        Register::R10 => registers.r10,
        Register::R11 => registers.r11,
        Register::R12 => registers.r12,
        Register::R13 => registers.r13,
        Register::R14 => registers.r14,
        Register::R15 => registers.r15,
        // Not in the code of any program here: gathers, and addresses of 32 bits.
        _ => return None,
    })
}

#[cfg(test)]
#[allow(unsafe_code, reason = "registers that are all zero")]
mod tests {
    use super::*;

    fn decode(code: &[u8]) -> Decoded {
        Decoded::at(0x1000, code).expect("an instruction")
    }

    fn touched(code: &[u8]) -> Vec<(u64, u64, Access)> {
        // SAFETY: the structure is plain numbers.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        (registers.rdi, registers.rcx, registers.rsp) = (0x100, 3, 0x900);
        registers.fs_base = 0x7000;
        let decoded = decode(code);
        let touches = decoded.touches(&registers);
        touches.map(|t| (t.address, t.bytes, t.access)).collect()
    }

    #[test]
    fn instructions_are_told_apart() {
        let cases: [(&[u8], Kind, &str); 11] = [
            (
                &[0xF0, 0x48, 0x0F, 0xB1, 0x0F],
                Kind::Rmw,
                "lock cmpxchg [rdi], rcx",
            ),
            (&[0x48, 0x87, 0x07], Kind::Rmw, "xchg [rdi], rax"),
            (&[0x48, 0x87, 0xC7], Kind::Plain, "xchg rdi, rax"),
            (
                &[0xF0, 0x83, 0x0C, 0x24, 0x00],
                Kind::Fence,
                "lock or [rsp], 0",
            ),
            (&[0x0F, 0xAE, 0xF0], Kind::Fence, "mfence"),
            (&[0xF3, 0x90], Kind::Pause, "pause"),
            (&[0x0F, 0x05], Kind::SystemCall, "syscall"),
            (&[0x0F, 0x31], Kind::Time, "rdtsc"),
            (&[0x0F, 0x01, 0xF9], Kind::Time, "rdtscp"),
            (&[0xCC], Kind::Marker, "int3"),
            (&[0x48, 0x8D, 0x07], Kind::Plain, "lea rax, [rdi]"),
        ];
        for (code, kind, text) in cases {
            assert_eq!(decode(code).kind, kind, "{text}");
        }
    }

    #[test]
    fn memory_is_found() {
        use Access::{Read, Write};
        let load = touched(&[0x48, 0x8B, 0x44, 0xCF, 0x10]);
        assert_eq!(load, [(0x128, 8, Read)], "mov rax, [rdi+8*rcx+0x10]");
        assert_eq!(
            touched(&[0xC6, 0x07, 0x01]),
            [(0x100, 1, Write)],
            "mov byte [rdi], 1"
        );
        let cas = touched(&[0xF0, 0x48, 0x0F, 0xB1, 0x0F]);
        assert_eq!(cas, [(0x100, 8, Write)], "lock cmpxchg [rdi], rcx");
        assert_eq!(touched(&[0x50]), [(0x8F8, 8, Write)], "push rax");
        let local = touched(&[0x64, 0x48, 0x8B, 0x04, 0x25, 0x08, 0, 0, 0]);
        assert_eq!(local, [(0x7008, 8, Read)], "mov rax, fs:[8]");
        let relative = touched(&[0x48, 0x8B, 0x05, 0x10, 0, 0, 0]);
        assert_eq!(relative, [(0x1017, 8, Read)], "mov rax, [rip+0x10]");
        assert_eq!(touched(&[0x48, 0x8D, 0x07]), [], "lea rax, [rdi]");
    }
}
