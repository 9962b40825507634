//! `emberbox template …`.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use emberbox_api::client::Client;
use emberbox_api::{CreateBuild, CreateTemplate, Template, TemplateBuild};
use serde_json::{Value, json};

use crate::cli::{BuildTemplate, TemplateCommand};
use crate::{client, output};

mod dockerfile;
mod follow;

/// What `template init` writes: something that builds and answers.
fn first_spec() -> Value {
    json!({
        "from": "miosa-sandbox",
        "steps": [
            { "run": "echo 'h1 { color: teal }' > style.css" },
            { "run": "echo '<link rel=stylesheet href=style.css><h1>Hello</h1>' > index.html" }
        ],
        "workdir": "/workspace",
        "startCmd": "python3 -m http.server 8000",
        "readyCmd": "curl -fsS http://127.0.0.1:8000",
        "previewPort": 8000
    })
}

/// Runs one of them.
pub(crate) async fn run(command: TemplateCommand) -> Result<ExitCode> {
    match command {
        TemplateCommand::List { json } => list(json).await?,
        TemplateCommand::Show { template, json } => show(&template, json).await?,
        TemplateCommand::Init { file } => {
            write_new(&file, &first_spec())?;
            output::line(file.display().to_string())?;
        }
        TemplateCommand::Validate { file } => return validate(&file).await,
        TemplateCommand::Build(arguments) => return build(arguments).await,
        TemplateCommand::Seed { templates, all } => return seed(templates, all).await,
        TemplateCommand::Logs { build, follow } => {
            let client = client::from_environment()?;
            let id = newest_build(&client, build).await?;
            if follow {
                return follow::to_the_end(&client, &id).await;
            }
            for event in client.build_log(&id).await? {
                output::line(follow::shown(&event))?;
            }
        }
        TemplateCommand::Cancel { build } => {
            let build = client::from_environment()?.cancel_build(&build).await?;
            output::line(build.state)?;
        }
        TemplateCommand::Retry { build } => {
            let client = client::from_environment()?;
            let build = client.retry_build(&build).await?;
            return follow::to_the_end(&client, build.id.as_str()).await;
        }
        TemplateCommand::Rm { templates } => {
            let client = client::from_environment()?;
            for template in templates {
                client.delete_template(&template).await?;
                output::line(template)?;
            }
        }
        TemplateCommand::Import {
            dockerfile,
            output: target,
        } => import(&dockerfile, target.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(json: bool) -> Result<()> {
    let list = client::from_environment()?.list_templates().await?;
    if json {
        return output::json(&list);
    }
    let rows = list.data.into_iter().map(|template| {
        let port = template.preview_port.map(|port| port.to_string());
        vec![
            template.slug.unwrap_or(template.id),
            template.category,
            template.state.unwrap_or_default(),
            template.image_id.unwrap_or_default(),
            port.unwrap_or_default(),
            template.description,
        ]
    });
    let headings = ["ID", "CATEGORY", "STATE", "IMAGE", "PORT", "DESCRIPTION"];
    output::table(&headings, rows)
}

async fn show(name: &str, json: bool) -> Result<()> {
    let client = client::from_environment()?;
    let template = client.get_template(name).await?;
    if json {
        return output::json(&template);
    }
    let port = template.preview_port.map(|port| port.to_string());
    let shape = format!(
        "{} vCPU, {} MiB, disk {} MiB",
        template.cpu_count, template.memory_mb, template.disk_mb
    );
    output::fields(&[
        ("id", Some(&template.id)),
        ("slug", template.slug.as_deref()),
        ("name", Some(&template.name)),
        ("state", template.state.as_deref()),
        ("image", template.image_id.as_deref()),
        ("shape", Some(&shape)),
        ("workdir", Some(&template.workdir)),
        ("start", template.start_command.as_deref()),
        ("port", port.as_deref()),
    ])?;
    if template.slug.is_none() {
        return Ok(());
    }
    let builds = client.list_builds(name).await?;
    output::line("")?;
    let headings = ["BUILD", "VERSION", "STATE", "ERROR", "CREATED"];
    output::table(&headings, builds.into_iter().map(row))
}

fn row(build: TemplateBuild) -> Vec<String> {
    vec![
        build.id.to_string(),
        build.version.to_string(),
        build.state,
        build.error_code.unwrap_or_default(),
        build.created_at.to_string(),
    ]
}

async fn validate(file: &Path) -> Result<ExitCode> {
    let spec = read(file)?;
    let answer = client::from_environment()?
        .validate_build_spec(&spec)
        .await?;
    if let Some(spec) = answer.build_spec {
        output::json(&spec)?;
        return Ok(ExitCode::SUCCESS);
    }
    for error in answer.errors.unwrap_or_default() {
        eprintln!("{}: {} ({})", error.field, error.message, error.code);
    }
    Ok(ExitCode::FAILURE)
}

async fn build(arguments: BuildTemplate) -> Result<ExitCode> {
    let client = client::from_environment()?;
    let spec = arguments.file.as_deref().map(read).transpose()?;
    let template = find_or_create(&client, &arguments, spec.as_ref()).await?;
    let request = CreateBuild {
        build_spec: spec,
        metadata: None,
    };
    let build = client.build_template(&template.id, &request).await?;
    if arguments.detach {
        output::line(build.id.as_str())?;
        return Ok(ExitCode::SUCCESS);
    }
    follow::to_the_end(&client, build.id.as_str()).await
}

/// Builds templates of the platform; one that fails does not keep the others.
async fn seed(templates: Vec<String>, all: bool) -> Result<ExitCode> {
    let client = client::from_environment()?;
    let templates = if all {
        let known = client.list_templates().await?.data.into_iter();
        // Without a slug they are the platform's, without a spec not built.
        let seeded = known.filter(|known| known.slug.is_none() && known.build_spec.is_some());
        seeded.map(|template| template.id).collect()
    } else {
        templates
    };
    let mut failed = Vec::new();
    for template in templates {
        output::line(&template)?;
        let build = client.seed_template(&template).await?;
        let ended = follow::to_the_end(&client, build.id.as_str()).await?;
        if ended == ExitCode::FAILURE {
            failed.push(template);
        } else if ended != ExitCode::SUCCESS {
            // Ctrl-C is about all of them.
            return Ok(ended);
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("not built: {}", failed.join(", "));
}

/// The template, made if a spec is there to make it of.
async fn find_or_create(
    client: &Client,
    arguments: &BuildTemplate,
    spec: Option<&Value>,
) -> Result<Template> {
    let name = &arguments.template;
    let missing = match client.get_template(name).await {
        Ok(template) => return Ok(template),
        Err(error) => error,
    };
    if missing.code() != Some("NOT_FOUND") {
        return Err(missing.into());
    }
    let Some(spec) = spec else {
        bail!("there is no template {name}; --file says what to make it of");
    };
    let request = CreateTemplate {
        slug: Some(name.clone()),
        description: arguments.description.clone(),
        build_spec: spec.clone(),
        ..CreateTemplate::default()
    };
    Ok(client.create_template(&request).await?)
}

/// The build that is meant: by its own id, or as the newest of a template.
async fn newest_build(client: &Client, name: String) -> Result<String> {
    if name.starts_with("build_") {
        return Ok(name);
    }
    let newest = client.list_builds(&name).await?.into_iter().next();
    let newest = newest.with_context(|| format!("the template {name} was never built"))?;
    Ok(newest.id.to_string())
}

fn import(dockerfile: &Path, target: Option<&Path>) -> Result<()> {
    let text = fs::read_to_string(dockerfile)
        .with_context(|| format!("cannot read {}", dockerfile.display()))?;
    let imported = dockerfile::import(&text)
        .with_context(|| format!("cannot read {} as a Dockerfile", dockerfile.display()))?;
    for note in &imported.notes {
        eprintln!("{}:{}: {}", dockerfile.display(), note.line, note.message);
    }
    match target {
        Some(file) => {
            write_new(file, &imported.spec)?;
            output::line(file.display().to_string())
        }
        None => output::json(&imported.spec),
    }
}

fn read(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| {
        format!(
            "cannot read {}; `emberbox template init` makes one",
            file.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, spec: &Value) -> Result<()> {
    let mut file = match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already", path.display());
        }
        opened => opened.with_context(|| format!("cannot write {}", path.display()))?,
    };
    let text = serde_json::to_string_pretty(spec)?;
    writeln!(file, "{text}").with_context(|| format!("cannot write {}", path.display()))
}
