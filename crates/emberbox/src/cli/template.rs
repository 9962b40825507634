//! What can be typed about templates.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// List what a sandbox can boot.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one template and its builds.
    Show {
        /// Its id or slug.
        template: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a BuildSpec to begin with.
    Init {
        /// Where; it must not be there yet.
        #[arg(default_value = "template.json", value_name = "FILE")]
        file: PathBuf,
    },
    /// Check a BuildSpec, and print it complete.
    Validate {
        /// The BuildSpec, as JSON.
        #[arg(default_value = "template.json", value_name = "FILE")]
        file: PathBuf,
    },
    /// Build a template and follow it; a slug that is new makes one.
    Build(BuildTemplate),
    /// Build templates of the platform, one after the other; for operators.
    Seed {
        /// Their ids.
        #[arg(required_unless_present = "all", value_name = "TEMPLATE")]
        templates: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "templates")]
        all: bool,
    },
    /// Print what happened in a build.
    Logs {
        /// A build's id, or a template for its newest build.
        #[arg(value_name = "BUILD")]
        build: String,
        /// Go on until the build is over.
        #[arg(long, short)]
        follow: bool,
    },
    /// End a build.
    Cancel {
        /// Its id.
        build: String,
    },
    /// Try a build again that failed or was cancelled.
    Retry {
        /// Its id.
        build: String,
    },
    /// Delete templates; sandboxes that came from them go on.
    Rm {
        /// Their ids or slugs.
        #[arg(required = true, value_name = "TEMPLATE")]
        templates: Vec<String>,
    },
    /// Make a BuildSpec from a Dockerfile, and say what has no place in one.
    Import {
        /// The Dockerfile.
        #[arg(default_value = "Dockerfile")]
        dockerfile: PathBuf,
        /// Where the BuildSpec is written; standard output by default.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BuildTemplate {
    /// The template's slug or id.
    pub(crate) template: String,
    /// The BuildSpec, as JSON; what the template was last made of when absent.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// What it is for, if it is new.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Queue it, print its id, and do not wait.
    #[arg(long)]
    pub(crate) detach: bool,
}
