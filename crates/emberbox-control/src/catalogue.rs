//! The templates of the platform.
//!
//! Decides: which there are, how their apps are installed and started, and
//! which BuildSpec makes the image of each. All but the first have one, in
//! `catalog/`: an operator has it built, and until then they boot the image of
//! the first, which is made of packages (`emberbox_image`).

use emberbox_api::{ReadinessProbe, Template};
use serde_json::Value;

/// What a sandbox boots when it names no template.
pub(crate) const DEFAULT_TEMPLATE: &str = "miosa-sandbox";

/// The image of the first template, and of those that were not built.
pub(crate) const IMAGE: &str = "miosa-sandbox";

const WORKDIR: &str = "/workspace";

/// Stands for the port in a start command.
const PORT: &str = "{port}";

struct Entry {
    id: &'static str,
    aliases: &'static [&'static str],
    name: &'static str,
    description: &'static str,
    category: &'static str,
    shape: (u32, u32, u32),
    port: Option<u16>,
    install: Option<&'static str>,
    /// With [`PORT`] where the port belongs.
    start: Option<&'static str>,
    /// The BuildSpec of its image, as JSON.
    spec: Option<&'static str>,
}

static ENTRIES: [Entry; 7] = [
    Entry {
        id: DEFAULT_TEMPLATE,
        aliases: &[],
        name: "Sandbox",
        description: "Stable production alias for the current sandbox image.",
        category: "base",
        shape: (1, 1024, 3072),
        port: None,
        install: None,
        start: None,
        spec: None,
    },
    Entry {
        id: "nextjs",
        aliases: &[],
        name: "Next.js",
        description: "Next.js app preview profile.",
        category: "web",
        shape: (2, 2048, 4096),
        port: Some(3000),
        install: Some("npm install"),
        start: Some("npm run dev -- --hostname 0.0.0.0 --port {port}"),
        spec: Some(include_str!("../../../catalog/nextjs.json")),
    },
    Entry {
        id: "vite-react",
        aliases: &["react-vite"],
        name: "Vite React",
        description: "Vite React app preview profile.",
        category: "web",
        shape: (2, 2048, 4096),
        port: Some(5173),
        install: Some("npm install"),
        start: Some("npm run dev -- --host 0.0.0.0 --port {port}"),
        spec: Some(include_str!("../../../catalog/vite-react.json")),
    },
    Entry {
        id: "python",
        aliases: &["python-3.12"],
        name: "Python",
        description: "Python script and artifact generation profile.",
        category: "data",
        shape: (1, 1024, 3072),
        port: None,
        install: Some("test ! -f requirements.txt || pip install -r requirements.txt"),
        start: Some("python3 main.py"),
        spec: Some(include_str!("../../../catalog/python.json")),
    },
    Entry {
        id: "streamlit",
        aliases: &[],
        name: "Streamlit",
        description: "Streamlit data app preview profile.",
        category: "data",
        shape: (2, 2048, 4096),
        port: Some(8501),
        install: Some("test ! -f requirements.txt || pip install -r requirements.txt"),
        start: Some(
            "streamlit run app.py --server.address 0.0.0.0 --server.port {port} --server.headless true",
        ),
        spec: Some(include_str!("../../../catalog/streamlit.json")),
    },
    Entry {
        id: "gradio",
        aliases: &[],
        name: "Gradio",
        description: "Gradio machine learning and demo app preview profile.",
        category: "ml",
        shape: (2, 2048, 4096),
        port: Some(7860),
        install: Some("test ! -f requirements.txt || pip install -r requirements.txt"),
        start: Some("GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT={port} python3 app.py"),
        spec: Some(include_str!("../../../catalog/gradio.json")),
    },
    Entry {
        id: "static-html",
        aliases: &["static"],
        name: "Static HTML",
        description: "Static HTML, CSS and JavaScript preview profile.",
        category: "web",
        shape: (1, 1024, 3072),
        port: Some(8000),
        install: None,
        start: Some("python3 -m http.server {port} --bind 0.0.0.0"),
        spec: Some(include_str!("../../../catalog/static-html.json")),
    },
];

/// Which ids a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aliases {
    /// Only the templates themselves.
    Hidden,
    /// The compatibility aliases too.
    Shown,
}

/// Every template, as it is without an image of its own.
pub(crate) fn list(aliases: Aliases) -> Vec<Template> {
    let shown = match aliases {
        Aliases::Hidden => false,
        Aliases::Shown => true,
    };
    ENTRIES
        .iter()
        .flat_map(|entry| {
            let aliases = entry.aliases.iter().filter(move |_| shown);
            std::iter::once(entry.template(entry.id))
                .chain(aliases.map(|alias| entry.template(alias)))
        })
        .collect()
}

/// The template with this id or alias, as it is without an image of its own.
pub(crate) fn find(id: &str) -> Option<Template> {
    entry(id).map(|entry| entry.template(id))
}

/// The id of the template with this id or alias.
pub(crate) fn own_id(id: &str) -> Option<&'static str> {
    entry(id).map(|entry| entry.id)
}

/// The BuildSpec of a template's image; the first template has none.
pub(crate) fn spec(id: &str) -> Option<Value> {
    let spec = entry(id)?.spec?;
    Some(serde_json::from_str(spec).expect("a test reads every spec of the catalogue"))
}

fn entry(id: &str) -> Option<&'static Entry> {
    ENTRIES
        .iter()
        .find(|entry| entry.id == id || entry.aliases.contains(&id))
}

/// Paths below `/sandbox-templates` that are routes of their own.
const ROUTES: [&str; 2] = ["build-spec", "validate"];

/// Whether a tenant's template cannot have this slug.
pub(crate) fn is_taken(slug: &str) -> bool {
    find(slug).is_some() || ROUTES.contains(&slug)
}

/// The port a sandbox of this template is shown by when nobody names one.
pub(crate) fn preview_port(id: &str) -> Option<u16> {
    find(id).and_then(|template| template.preview_port)
}

/// How the app of a template is started at another port than its own.
pub(crate) fn start_command(id: &str, port: Option<u16>) -> Option<String> {
    entry(id)?.start_at(port)
}

impl Entry {
    fn template(&self, id: &str) -> Template {
        let (cpu_count, memory_mb, disk_mb) = self.shape;
        Template {
            id: id.to_owned(),
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            alias_of: (id != self.id).then(|| self.id.to_owned()),
            image_id: Some(IMAGE.to_owned()),
            category: self.category.to_owned(),
            cpu_count,
            memory_mb,
            disk_mb,
            workdir: WORKDIR.to_owned(),
            preview_port: self.port,
            install_command: self.install.map(str::to_owned),
            start_command: self.start_at(self.port),
            readiness_probe: self.port.map(|port| ReadinessProbe {
                kind: "http".to_owned(),
                url: Some(format!("http://127.0.0.1:{port}")),
                ..ReadinessProbe::default()
            }),
            artifact_paths: vec![WORKDIR.to_owned()],
            ..Template::default()
        }
    }

    fn start_at(&self, port: Option<u16>) -> Option<String> {
        let port = port.or(self.port).map(|port| port.to_string());
        let start = self.start?;
        Some(start.replace(PORT, &port.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;
