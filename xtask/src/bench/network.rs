//! A guest's network, from its inside: floors are taken without a server.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process;

/// The guest's address in its namespace, the same in each.
pub(super) const GUEST: &str = "172.30.0.2";

/// Longest until a connection to a guest is there.
const CONNECT: Duration = Duration::from_secs(10);

/// The namespace of one sandbox.
pub(super) struct Namespace {
    /// A process in it.
    pid: u32,
}

impl Namespace {
    /// Of the only VM there is.
    pub(super) fn of(data_dir: &Path) -> Result<Self> {
        let vmms = process::vmms(data_dir)?;
        ensure!(vmms.len() == 1, "{} VMs run, and not one", vmms.len());
        Ok(Self { pid: vmms[0].pid })
    }

    /// A program in it.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.pid.to_string();
        command.args(["--net", "--target", &pid, program]);
        command
    }

    /// A connection to the guest.
    pub(super) fn connect(&self, port: u16) -> Result<TcpStream> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid))
            .context("cannot open the sandbox's network namespace")?;
        let address = SocketAddr::new(GUEST.parse()?, port);
        // The namespace is the thread's, and this one does nothing else.
        let connecting = thread::spawn(move || -> Result<TcpStream> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the sandbox's network namespace")?;
            TcpStream::connect_timeout(&address, CONNECT)
                .with_context(|| format!("cannot connect to {address} in the guest"))
        });
        connecting.join().expect("connecting does not panic")
    }
}
