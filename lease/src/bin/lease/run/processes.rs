//! The processes that the command has started, as far as the system lists them.

use rustix::process::Pid;

/// A process that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: Pid,
    pub(super) parent: Option<Pid>,
    pub(super) group: Option<Pid>,
}

/// Returns all processes that have not ended, or `None` where the system has no such list.
#[cfg(target_os = "linux")]
pub(super) fn all() -> Option<Vec<Process>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let mut processes = Vec::new();
    let mut found_itself = false;
    for entry in entries.flatten() {
        let id = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(id) = id.and_then(Pid::from_raw) else {
            continue;
        };
        found_itself |= id == rustix::process::getpid();
        // A process that ends while it is read is not there.
        let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
        processes.extend(parse(id, &stat));
    }
    // A mounted /proc of another namespace would show other processes.
    found_itself.then_some(processes)
}

/// Returns all processes that have not ended, or `None` where the system has no such list.
#[cfg(not(target_os = "linux"))]
pub(super) fn all() -> Option<Vec<Process>> {
    None
}

/// Parses `PID (NAME) STATE PARENT GROUP ...`. The name may contain any character.
#[cfg(target_os = "linux")]
fn parse(id: Pid, stat: &[u8]) -> Option<Process> {
    let behind_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let text = std::str::from_utf8(&stat[behind_name..]).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?;
    let mut id_field = || fields.next()?.parse::<i32>().ok();
    let (parent, group) = (id_field()?, id_field()?);
    if group < 0 {
        // The process is being removed, and the system has forgotten its group.
        return None;
    }
    let process = Process {
        id,
        parent: Pid::from_raw(parent),
        group: Pid::from_raw(group),
    };
    (!matches!(state, "Z" | "X")).then_some(process)
}

/// Returns the direct children of this process that have not ended.
pub(super) fn children() -> Option<Vec<Pid>> {
    let own = Some(rustix::process::getpid());
    let children = all()?.into_iter().filter(|process| process.parent == own);
    Some(children.map(|process| process.id).collect())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_anything() {
        let id = Pid::from_raw(7).unwrap();
        let process = parse(id, b"7 (a) Z 1) S 5 6 6 0 -1").unwrap();
        assert_eq!(process.parent, Pid::from_raw(5));
        assert_eq!(process.group, Pid::from_raw(6));
        assert_eq!(parse(id, b"7 (a) Z 5 6 6 0"), None);
        assert_eq!(parse(id, b""), None);
    }

    #[test]
    fn a_process_that_is_being_removed_has_no_group() {
        let id = Pid::from_raw(7).unwrap();
        assert_eq!(parse(id, b"7 (a) S 0 -1 -1 0 -1"), None);
    }
}
