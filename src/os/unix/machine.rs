//! Facts about the machine: listening processes, limits, and file systems.
//!
//! Reads Linux's /proc as far as permitted; where it is not, reports nothing. Only
//! `raise_descriptors` changes anything.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::os::{Holder, Space, covers};

/// The processes that listen on an address, or on its port of every address. Only root sees those
/// of other users.
pub fn holders(address: SocketAddr) -> Vec<Holder> {
    let mut sockets = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        sockets.extend(text.lines().skip(1).filter_map(|line| listening(line, address)));
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| holds(*pid, &sockets))
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Holder { pid, name: name.trim().to_owned() }
        })
        .collect()
}

/// The socket in a line of /proc/net/tcp, if it listens on that address.
fn listening(line: &str, address: SocketAddr) -> Option<String> {
    let mut words = line.split_whitespace();
    let (local, state) = (words.nth(1)?, words.nth(1)?);
    let (ip, port) = local.split_once(':')?;
    let own = SocketAddr::new(decoded(ip)?, u16::from_str_radix(port, 16).ok()?);
    (state == "0A" && covers(own, address))
        .then(|| words.nth(5).map(|i| format!("socket:[{i}]")))?
}

/// An address as the kernel prints it: words in the machine's byte order.
fn decoded(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into()),
        32 => {
            let mut bytes = [0; 16];
            for (n, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(n * 8)?.to_ne_bytes());
            }
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

fn holds(pid: u32, sockets: &BTreeSet<String>) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| link.to_str().is_some_and(|link| sockets.contains(link)))
}

/// How many files a process may open.
pub fn descriptors(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// The space on the file system of a folder.
pub fn space(folder: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(Space {
        left: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
        device: fs::metadata(folder).ok()?.dev(),
    })
}

/// How many files this process may open; `None` if there is no limit.
pub fn own_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises this process's soft limit of open files to its hard limit and returns it; `None` if there
/// is no limit.
///
/// # Errors
/// The system's error; the limit stays as it was.
pub fn raise_descriptors() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}

/// How many inotify instances and watches a user may have.
pub fn watch_limits() -> (Option<u64>, Option<u64>) {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse().ok()
    };
    (read("max_user_instances"), read("max_user_watches"))
}

/// The file system type of a folder, if its changes may go unnoticed by inotify.
pub fn unwatchable(folder: &Path) -> Option<String> {
    let place = fs::canonicalize(folder).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let kind = file_system(&mounts, &place)?;
    is_deaf(kind).then(|| kind.to_owned())
}

/// Changes by other machines, or below an overlay's upper layer, cause no inotify event.
fn is_deaf(kind: &str) -> bool {
    let network = ["nfs", "cifs", "smb", "9p", "afs", "ceph", "virtiofs", "fuse", "lustre", "gfs2"];
    network.iter().any(|name| kind.starts_with(name)) || kind == "overlay"
}

/// The type of the file system that a path is on, from the text of /proc/self/mountinfo.
fn file_system<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let parsed = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        Some((PathBuf::from(point), after.split(' ').next()?))
    });
    // The last of several mounts on one mount point hides the earlier ones.
    let over = parsed.filter(|(point, _)| path.starts_with(point));
    over.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found_with_its_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = holders(listener.local_addr().unwrap());
        assert!(found.iter().any(|holder| holder.pid == std::process::id()), "{found:?}");
        assert!(descriptors(std::process::id()).is_some_and(|open| open > 3));
    }

    #[test]
    fn the_file_system_is_that_of_the_deepest_mount() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      40 22 0:40 / /srv/a\\040b rw - nfs4 nas:/x rw\n";
        assert_eq!(file_system(mounts, Path::new("/srv/a b/c")), Some("nfs4"));
        assert_eq!(file_system(mounts, Path::new("/srv/a")), Some("ext4"));
        assert!(is_deaf("nfs4") && is_deaf("overlay") && !is_deaf("ext4") && !is_deaf("xfs"));
    }
}
