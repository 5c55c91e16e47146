//! Diagnostics of the host: listening processes, limits, file systems, and file modes.
//!
//! Reads Linux's /proc as far as permitted; where it is not, reports nothing. Only
//! `raise_descriptors` changes anything.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::secret::{Exposure, exposure};

/// A process that holds a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl Holder {
    /// Whether it is a sitegate process.
    pub fn is_sitegate(&self) -> bool {
        self.name == "sitegate"
    }
}

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
    let ours = u16::from_str_radix(port, 16).ok()? == address.port() && state == "0A";
    let ip = decoded(ip)?;
    let wide = ip.is_unspecified() || address.ip().is_unspecified();
    (ours && (wide || ip == address.ip())).then(|| words.nth(5).map(|i| format!("socket:[{i}]")))?
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

/// Why this process cannot write to a folder; `None` if it can.
pub fn unwritable(folder: &Path) -> Option<std::io::Error> {
    use rustix::fs::{Access, access};
    access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).err().map(Into::into)
}

/// The file system of a folder, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Space that is available to this process.
    pub left: u64,
    /// Total space.
    pub total: u64,
    /// The device number.
    pub device: u64,
}

/// The space on the file system of a folder.
pub fn space(folder: &Path) -> Option<Space> {
    use std::os::unix::fs::MetadataExt;
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(Space {
        left: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
        device: fs::metadata(folder).ok()?.dev(),
    })
}

/// How many files a configuration may need open: one for each connection and one for its backend
/// connection.
pub fn descriptors_needed(connections_max: usize) -> u64 {
    2 * connections_max as u64
}

/// The fewest open files with which a process starts: with fewer it would randomly fail to open
/// files, listeners and backend connections. `listeners` are opened by each of `threads`.
pub fn descriptors_min(threads: usize, listeners: usize) -> u64 {
    (128 + threads * (8 + listeners)) as u64
}

/// How many requests may have a backend connection at once: half of the open-file limit, which
/// leaves the other half to client connections.
pub fn requests_max() -> usize {
    let open = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    open.map_or(usize::MAX, |open| usize::try_from(open / 2).unwrap_or(usize::MAX))
}

/// Raises this process's soft limit of open files to its hard limit and returns it; `None` if there
/// is no limit.
///
/// # Errors
/// The system's error; the limit stays as it was.
pub fn raise_descriptors() -> std::io::Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}

/// How many inotify instances and watches a user may have.
pub fn inotify() -> (Option<u64>, Option<u64>) {
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

/// Whether a file is readable by users other than its owner and group.
pub fn is_exposed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| exposure(&meta) == Exposure::Everyone)
}

/// Key files below a folder that are world-readable.
pub fn exposed_keys(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    look_below(folder, 4, &mut found);
    found.sort();
    found
}

fn look_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) && depth > 0 {
            look_below(&path, depth - 1, found);
        } else if path.extension().is_some_and(|ext| ext == "key") && is_exposed(&path) {
            found.push(path);
        }
    }
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

    #[test]
    fn keys_that_everyone_can_read_are_found_below_a_folder() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a");
        fs::create_dir(&below).unwrap();
        let key = below.join("x.key");
        fs::write(&key, "").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(exposed_keys(dir.path()), Vec::<PathBuf>::new());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(exposed_keys(dir.path()), [key]);
    }
}
