//! What can be typed after `sandbox`.

use clap::{Args, Subcommand};

use super::pair;
use crate::sandbox::copy::Place;

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Create a sandbox and print its id.
    Create(CreateSandbox),
    /// List sandboxes that exist.
    List {
        /// Destroyed ones as well.
        #[arg(long)]
        all: bool,
        /// Only those in this state.
        #[arg(long, conflicts_with = "all")]
        state: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one sandbox.
    Get {
        /// Which.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a command, pass on its output as it comes, and exit with its code.
    Exec(Exec),
    /// Open a shell in a terminal; it ends with this command.
    Sh(Shell),
    /// Copy a file into or out of a sandbox.
    #[command(
        after_help = "One of the two is ID:/absolute/path, the other a local path; \
                            - is standard input or output."
    )]
    Cp {
        /// From where.
        #[arg(value_name = "FROM")]
        from: Place,
        /// To where.
        #[arg(value_name = "TO")]
        to: Place,
    },
    /// List a directory of a sandbox.
    Ls {
        /// Which directory; ID alone means ID:/workspace.
        #[arg(value_name = "ID:/PATH")]
        place: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Follow what happens in a directory of a sandbox.
    Watch {
        /// Which directory; ID alone means ID:/workspace.
        #[arg(value_name = "ID:/PATH")]
        place: String,
        /// Not what is below it.
        #[arg(long)]
        flat: bool,
        /// Print a JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Start the app of the sandbox's template and wait for it.
    Start(Start),
    /// Show what happened to a sandbox and what its app wrote.
    Logs {
        /// Of which.
        id: String,
        /// Go on with what comes, until the sandbox ends.
        #[arg(short, long)]
        follow: bool,
        /// How many of the last lines.
        #[arg(short = 'n', long, value_name = "COUNT")]
        lines: Option<u32>,
    },
    /// Follow what happens to a sandbox, until it ends.
    Events {
        /// To which.
        id: String,
        /// Print a JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Show a port on the outside and print its address.
    Expose {
        /// Of which sandbox.
        id: String,
        /// Which port; the template's by default.
        #[arg(value_parser = port())]
        port: Option<u16>,
    },
    /// Show a port on the outside and open it in a browser.
    Open {
        /// Of which sandbox.
        id: String,
        /// Which port; the template's by default.
        #[arg(value_parser = port())]
        port: Option<u16>,
        /// Only print the address.
        #[arg(long)]
        print: bool,
    },
    /// Give a sandbox's app a lasting address.
    Deploy(Deploy),
    /// Put sandboxes on disk: nothing of them runs, and their time stands still.
    Pause {
        /// Which.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Bring paused sandboxes back; their processes go on.
    Resume {
        /// Which.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Take a snapshot of a running sandbox and print its id.
    Snapshot {
        /// Of which.
        id: String,
        /// What it is kept for.
        #[arg(long)]
        comment: Option<String>,
    },
    /// List the snapshots of a sandbox.
    Snapshots {
        /// Of which.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Delete this one instead.
        #[arg(long, value_name = "SNAPSHOT", conflicts_with = "json")]
        delete: Option<String>,
    },
    /// Bring a sandbox's files, memory and processes back to a snapshot.
    Restore {
        /// Which.
        id: String,
        /// To which of its snapshots.
        snapshot: String,
    },
    /// Make a sandbox that goes on from where another one is; print its id.
    Fork {
        /// From which.
        id: String,
        /// From where it was at this snapshot.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// A name for the fork.
        #[arg(long)]
        name: Option<String>,
    },
    /// Move a sandbox's end.
    Extend {
        /// Which.
        id: String,
        /// Seconds from now; its own timeout by default.
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<i64>,
    },
    /// List the background processes of a sandbox.
    Ps {
        /// Of which.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End background processes and what they started.
    Kill {
        /// Of which sandbox.
        id: String,
        /// Which, as `ps` shows them.
        #[arg(required = true, value_name = "PID")]
        pids: Vec<u32>,
        /// Only send this signal, a name or a number.
        #[arg(short, long)]
        signal: Option<String>,
    },
    /// Destroy sandboxes.
    Rm {
        /// Which.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateSandbox {
    /// What it boots.
    #[arg(long, value_name = "ID")]
    pub(crate) template: Option<String>,
    /// A named size: xs, small, medium, large, xl.
    #[arg(long)]
    pub(crate) size: Option<String>,
    /// Virtual CPUs.
    #[arg(long, value_name = "COUNT")]
    pub(crate) cpu: Option<i64>,
    /// Memory.
    #[arg(long, value_name = "MIB")]
    pub(crate) memory: Option<i64>,
    /// Disk.
    #[arg(long, value_name = "MIB")]
    pub(crate) disk: Option<i64>,
    /// Seconds after which it is destroyed.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<i64>,
    /// A variable every process in it sees.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// Data of yours that is kept with it.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Start the template's app.
    #[arg(long)]
    pub(crate) auto_start: bool,
    /// Your name for it.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A tag; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Print the whole record as JSON instead of the id.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say on standard error where the time went.
    #[arg(long)]
    pub(crate) timing: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Where.
    pub(crate) id: String,
    /// Working directory; /root by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Pass on standard input.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Run it in a terminal, which is this one; with -i.
    #[arg(short, long, requires = "interactive")]
    pub(crate) tty: bool,
    /// Seconds until the command is killed.
    #[arg(long, value_name = "SECONDS", conflicts_with = "tty")]
    pub(crate) timeout: Option<i64>,
    /// A variable for this command.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// A program and its arguments, or one string for the shell.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Shell {
    /// Where.
    pub(crate) id: String,
    /// Working directory; /root by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// A variable for this shell.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Where.
    pub(crate) id: String,
    /// Where the app listens.
    #[arg(long, value_parser = port())]
    pub(crate) port: Option<u16>,
    /// Run this first, instead of the template's.
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_install")]
    pub(crate) install: Option<String>,
    /// Run nothing first.
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Runs the app, instead of the template's.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    /// Where the app's files are.
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Seconds to wait for the app to answer.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<i64>,
    /// End the app first if it runs.
    #[arg(long)]
    pub(crate) restart: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Which.
    pub(crate) id: String,
    /// For people; its address is made from it.
    #[arg(long, required_unless_present = "deployment")]
    pub(crate) name: Option<String>,
    /// Point this deployment here, instead of making one.
    #[arg(long, value_name = "ID")]
    pub(crate) deployment: Option<String>,
    /// Where the app listens; the template's port by default.
    #[arg(long, value_parser = port())]
    pub(crate) port: Option<u16>,
    /// A domain of yours that leads to it.
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// Print JSON instead of the address.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A TCP port; 0 is none.
fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}
