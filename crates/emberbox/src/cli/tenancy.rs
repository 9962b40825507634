//! What can be typed about tenants, workspaces, projects and keys.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// List tenants.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a tenant and print its id; it has no key yet.
    Create {
        /// What it is called.
        name: String,
        /// Its label in the addresses of its deployments.
        #[arg(long)]
        slug: Option<String>,
        #[command(flatten)]
        limits: TenantLimits,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a tenant; limits that are not named become the settings'.
    Update {
        /// Which.
        id: String,
        /// What it is called.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        limits: TenantLimits,
        /// Take every limit from the settings.
        #[arg(long, conflicts_with = "TenantLimits")]
        no_limits: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Refuse a tenant's keys; nothing of its is lost.
    Suspend {
        /// Which.
        id: String,
    },
    /// Take a suspended tenant's keys again.
    Resume {
        /// Which.
        id: String,
    },
    /// Delete tenants that have no sandboxes left.
    Rm {
        /// Which.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// List a tenant's users.
    Users {
        /// Whose.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a user of a tenant and print its id.
    AddUser {
        /// Whose.
        id: String,
        /// What it is called.
        name: String,
        /// Where to write.
        #[arg(long)]
        email: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a user of a tenant and revoke its keys.
    RmUser {
        /// Whose.
        id: String,
        /// Which user.
        user: String,
    },
}

/// Limits of a tenant's own.
#[derive(Debug, Args)]
pub(crate) struct TenantLimits {
    /// Sandboxes that exist at the same time.
    #[arg(long, value_name = "N")]
    pub(crate) max_sandboxes: Option<i64>,
    /// Most vCPUs of one sandbox.
    #[arg(long, value_name = "N")]
    pub(crate) max_vcpus: Option<i64>,
    /// Most memory of one sandbox.
    #[arg(long, value_name = "MIB")]
    pub(crate) max_memory_mib: Option<i64>,
    /// Largest disk of one sandbox.
    #[arg(long, value_name = "MIB")]
    pub(crate) max_disk_mib: Option<i64>,
    /// Snapshots of one sandbox that exist at the same time.
    #[arg(long, value_name = "N")]
    pub(crate) max_snapshots: Option<i64>,
    /// Workspaces.
    #[arg(long, value_name = "N")]
    pub(crate) max_workspaces: Option<i64>,
    /// Projects in all workspaces, the default ones included.
    #[arg(long, value_name = "N")]
    pub(crate) max_projects: Option<i64>,
    /// Users.
    #[arg(long, value_name = "N")]
    pub(crate) max_users: Option<i64>,
    /// Keys and tokens that work at the same time.
    #[arg(long, value_name = "N")]
    pub(crate) max_keys: Option<i64>,
    /// Largest upload.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_upload_bytes: Option<i64>,
    /// Longest exec timeout.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) max_exec_timeout_sec: Option<i64>,
    /// Requests of one workspace in a minute; 0 is no limit.
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_minute: Option<i64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// List workspaces.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a workspace and print its id.
    Create(NewPlace),
    /// Change a workspace.
    Update(ChangePlace),
    /// Delete workspaces that hold no sandboxes.
    Rm {
        /// Which.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// List projects.
    List {
        /// Only of this workspace.
        #[arg(long, value_name = "ID")]
        workspace: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a project and print its id.
    Create {
        #[command(flatten)]
        new: NewPlace,
        /// Its workspace; the default one by default.
        #[arg(long, value_name = "ID")]
        workspace: Option<String>,
    },
    /// Change a project.
    Update(ChangePlace),
    /// Delete projects that hold no sandboxes.
    Rm {
        /// Which.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewPlace {
    /// What it is called.
    pub(crate) name: String,
    /// Its short name; made of the name by default.
    #[arg(long)]
    pub(crate) slug: Option<String>,
    /// Your own id of it; one that is known gives what has it.
    #[arg(long, value_name = "ID")]
    pub(crate) external_id: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChangePlace {
    /// Which.
    pub(crate) id: String,
    /// What it is called.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Its short name.
    #[arg(long)]
    pub(crate) slug: Option<String>,
    /// Your own id of it.
    #[arg(long, value_name = "ID")]
    pub(crate) external_id: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print its secret, for the only time.
    Create {
        /// What it is for.
        #[arg(long)]
        name: Option<String>,
        /// Seconds until it stops working; never by default.
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<i64>,
        /// What it may do, for example sandboxes:read; everything of its
        /// tenant by default. May be given several times.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// The only workspace it sees.
        #[arg(long, value_name = "ID")]
        workspace: Option<String>,
        /// Whom it speaks for.
        #[arg(long, value_name = "ID")]
        user: Option<String>,
        /// Whose it is; needs an operator's key.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List keys, without their secrets.
    List {
        /// Whose; needs an operator's key.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a key.
    Update {
        /// Its id, as `key list` shows it.
        id: String,
        /// What it is for.
        #[arg(long)]
        name: Option<String>,
        /// Seconds from now until it stops working.
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<i64>,
        /// What it may do. May be given several times.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give a key another secret and print it, for the only time.
    Rotate {
        /// Its id, as `key list` shows it.
        id: String,
        /// Seconds the present secret goes on working.
        #[arg(long, value_name = "SECONDS")]
        overlap: Option<i64>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a key useless.
    Revoke {
        /// Its id, as `key list` shows it.
        id: String,
    },
}
