//! A machine with a real systemd: a tree of Debian's in the target folder, booted by systemd-nspawn with a network of its
//! own, and ended with its owner. What is written there is gone with it. Nothing of it is installed on this machine.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{Process, until};
use super::tools::{debian, target};

/// Where the packages of the tree come from, and their signatures are checked.
const MIRROR: &str = "http://deb.debian.org/debian";
const SUITE: &str = "bookworm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The machine.
pub(crate) struct Machine {
    nspawn: Process,
    /// Its first process, as this machine names it.
    leader: u32,
    /// One machine at a time is made of the tree.
    _lock: File,
}

impl Machine {
    /// Boots it, and waits until all that it starts by itself has started. To be kept by the thread that calls: the
    /// machine ends with that.
    pub(crate) fn boot() -> Self {
        let (tree, lock) = tree();
        let container = debian("systemd-container");
        let library = debian("libsystemd-shared").join("usr/lib").join(architecture()).join("systemd");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(container.join("usr/bin/systemd-nspawn"));
        command.args(["--boot", "--register=no", "--keep-unit", "--private-network", "--console=read-only"]);
        command.args(["--quiet", "--volatile=overlay", "--machine=eyot"]).arg("--directory").arg(tree);
        command.env("LD_LIBRARY_PATH", library).env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let mut nspawn = Process::start("systemd-nspawn", &mut command);
        let leader = until("the machine begins", || {
            assert!(!nspawn.has_ended(), "systemd-nspawn has ended: {}", nspawn.log());
            first_of(nspawn.id())
        });
        let machine = Self { nspawn, leader, _lock: lock };
        until("its service manager answers", || machine.path("/run/systemd/private").exists().then_some(()));
        assert_eq!(machine.systemctl(&["is-system-running", "--wait"]).trim(), "running");
        machine
    }

    /// A path there, as this machine names it.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        Path::new("/proc").join(self.leader.to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A program of that machine's.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--all", "--", program]).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("SYSTEMD_PAGER", "").env("SYSTEMD_COLORS", "0");
        command
    }

    /// The same of this machine's, with the network of that one.
    pub(crate) fn connected(&self, command: &Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.args(["--target", &self.leader.to_string(), "--net", "--"]);
        entered.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(name, value),
                None => entered.env_remove(name),
            };
        }
        entered
    }

    /// Its network, for clients of this process.
    pub(crate) fn network(&self) -> Network {
        Network(Arc::new(File::open(format!("/proc/{}/ns/net", self.leader)).expect("the machine runs")))
    }

    /// Asks its service manager for what must go well; what it says.
    pub(crate) fn systemctl(&self, arguments: &[&str]) -> String {
        let output = self.try_systemctl(arguments);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "systemctl {arguments:?}: {told}{complained}");
        told
    }

    /// Asks its service manager.
    pub(crate) fn try_systemctl(&self, arguments: &[&str]) -> Output {
        self.command("systemctl").args(arguments).output().expect("nsenter")
    }

    /// A property of a unit.
    pub(crate) fn show(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", "--value", "--property", property, unit]).trim().to_owned()
    }

    /// What the journal has of a unit, and its manager of it.
    pub(crate) fn journal(&self, unit: &str) -> String {
        let output = self.command("journalctl").args(["--no-pager", "--output=short-precise", "--unit", unit]).output();
        String::from_utf8_lossy(&output.expect("nsenter").stdout).into_owned()
    }

    /// What this machine calls the process that is `pid` there.
    pub(crate) fn here(&self, pid: u32) -> Option<u32> {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let theirs = namespace(self.leader);
        let all = fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
        let mut all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        all.find(|here| number_there(*here).as_deref() == Some(&pid.to_string()) && namespace(*here) == theirs)
    }

    /// Ends the process that is `pid` there, as the kernel does when memory is short.
    pub(crate) fn kill(&self, pid: u32) {
        let here = self.here(pid).unwrap_or_else(|| panic!("no process is {pid}"));
        kill(here);
    }
}

/// A network.
#[derive(Clone)]
pub(crate) struct Network(Arc<File>);

impl Network {
    /// From now on the sockets that this thread makes, and the threads that it starts, are of that network.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).expect("it may, and there is one");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for unit in ["eyot-origin.service", "eyot-node.service"] {
                println!("---- {unit}\n{}----", self.journal(unit));
            }
        }
        // All others of its processes end with the first, and then systemd-nspawn does.
        if !self.nspawn.has_ended() && first_of(self.nspawn.id()) == Some(self.leader) {
            kill(self.leader);
        }
        if !std::thread::panicking() {
            self.nspawn.wait();
        }
    }
}

fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill");
    assert!(killed.success() || std::thread::panicking(), "kill {pid}");
}

/// The first process of the machine that systemd-nspawn has started: for a moment it has another child.
fn first_of(nspawn: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let mut children = children.split_whitespace().filter_map(|child| child.parse().ok());
    children.find(|child| number_there(*child).as_deref() == Some("1"))
}

/// What a process is called in the innermost of the namespaces it is in.
fn number_there(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().last().map(str::to_owned)
}

fn architecture() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// The tree, made by debootstrap if it is not there, and the lock on it.
fn tree() -> (PathBuf, File) {
    let folder = target().join("trees");
    fs::create_dir_all(&folder).expect("a folder in target");
    let lock = File::create(folder.join("lock")).expect("a lock in target");
    lock.lock().expect("the lock");
    let tree = folder.join(SUITE);
    if !tree.exists() {
        println!("making a tree of Debian {SUITE} in {}", tree.display());
        let (debootstrap, part) = (debian("debootstrap"), folder.join("part"));
        let _ = fs::remove_dir_all(&part);
        let mut command = Command::new("sh");
        command.arg(debootstrap.join("usr/sbin/debootstrap")).args(["--variant=minbase", "--keyring", KEYRING]);
        command.arg("--include=systemd,systemd-sysv").arg(SUITE).arg(&part).arg(MIRROR);
        command.env("DEBOOTSTRAP_DIR", debootstrap.join("usr/share/debootstrap"));
        let output = command.output().expect("sh");
        let log = fs::read_to_string(part.join("debootstrap/debootstrap.log")).unwrap_or_default();
        assert!(output.status.success(), "debootstrap: {}{log}", String::from_utf8_lossy(&output.stdout));
        fs::rename(&part, &tree).expect("a place in target");
    }
    (tree, lock)
}

/// Why there can be no such machine here.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a machine with systemd is booted by root alone".to_owned());
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &&str| std::env::split_paths(&paths).any(|folder| folder.join(program).exists());
    let lacking = ["apt-get", "dpkg-deb", "nsenter", "setpriv"].into_iter().find(|program| !has(program))?;
    Some(format!("a machine with systemd is made by Debian's programs, and there is no `{lacking}`"))
}
