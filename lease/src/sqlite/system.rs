//! The calls of the operating system that the standard library does not offer.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Returns the user identifier with which this process accesses files.
pub(super) fn effective_user() -> u32 {
    // SAFETY: geteuid has no arguments, no memory effects and cannot fail.
    unsafe { libc::geteuid() }
}

/// Returns the identifier of the kernel's present run, which changes at each boot.
pub(super) fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// Returns the nanoseconds by which a time namespace shifts CLOCK_BOOTTIME for this process.
pub(super) fn boot_clock_offset() -> i64 {
    match fs::read_to_string("/proc/self/timens_offsets") {
        Ok(text) => parse_boot_offset(&text),
        // A kernel without time namespaces shifts no clock.
        Err(_) => 0,
    }
}

fn parse_boot_offset(text: &str) -> i64 {
    let mut offset = 0;
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        if !matches!(fields.next(), Some("boottime" | "7")) {
            continue;
        }
        let mut number = || fields.next().and_then(|field| field.parse::<i64>().ok());
        if let (Some(seconds), Some(nanoseconds)) = (number(), number()) {
            offset = seconds
                .saturating_mul(NANOSECONDS)
                .saturating_add(nanoseconds);
        }
    }
    offset
}

const NANOSECONDS: i64 = 1_000_000_000;

/// Returns the nanoseconds since boot, including time in suspension.
pub(super) fn boot_clock() -> i64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is valid for a write of a timespec.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, time.as_mut_ptr()) };
    assert_eq!(status, 0, "the kernel has no CLOCK_BOOTTIME");
    // SAFETY: all bytes are initialised, and every bit pattern is a timespec.
    let time = unsafe { time.assume_init() };
    time.tv_sec
        .saturating_mul(NANOSECONDS)
        .saturating_add(time.tv_nsec)
}

/// Returns the number that identifies the type of the file system of a path.
pub(super) fn file_system_type(path: &Path) -> io::Result<u32> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut status = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path ends with a zero byte, and the pointer is valid for a write of a statfs.
    if unsafe { libc::statfs(path.as_ptr(), status.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all bytes are initialised, and every bit pattern is a statfs.
    let status = unsafe { status.assume_init() };
    // The kernel's numbers have 32 bits; the field of the C library is wider and may be signed.
    Ok(status.f_type as u32)
}

/// Returns whether the file system of a path is read-only.
pub(super) fn is_read_only(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut status = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero byte, and the pointer is valid for a write of a statvfs.
    if unsafe { libc::statvfs(path.as_ptr(), status.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all bytes are initialised, and every bit pattern is a statvfs.
    let status = unsafe { status.assume_init() };
    Ok(status.f_flag & libc::ST_RDONLY != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        let text = "monotonic           1         5\nboottime          -60         7\n";
        assert_eq!(parse_boot_offset(text), -60 * NANOSECONDS + 7);
        assert_eq!(parse_boot_offset("monotonic 5 5\n"), 0);
        assert_eq!(parse_boot_offset(""), 0);
    }

    #[test]
    fn the_boot_clock_is_the_uptime() {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let clock = (boot_clock() - boot_clock_offset()) as f64 / 1e9;
        assert!((clock - uptime).abs() < 2.0, "{clock} against {uptime}");
    }
}
