use emberbox_core::{BuildLimits, BuildSpec};

use super::{Aliases, DEFAULT_TEMPLATE, IMAGE, find, list, spec};

#[test]
fn every_listed_id_is_found_and_unique() {
    let all = list(Aliases::Shown);
    for template in &all {
        assert_eq!(find(&template.id).as_ref(), Some(template));
        let same = all.iter().filter(|other| other.id == template.id).count();
        assert_eq!(same, 1, "{}", template.id);
    }
}

#[test]
fn aliases_are_shown_only_when_asked_for() {
    let ids = |aliases| -> Vec<String> { list(aliases).into_iter().map(|t| t.id).collect() };
    assert_eq!(
        ids(Aliases::Hidden),
        [
            "miosa-sandbox",
            "nextjs",
            "vite-react",
            "python",
            "streamlit",
            "gradio",
            "static-html"
        ]
    );
    for alias in ["python-3.12", "react-vite", "static"] {
        assert!(ids(Aliases::Shown).iter().any(|id| id == alias), "{alias}");
    }
}

#[test]
fn the_example_of_the_reference() {
    let nextjs = serde_json::to_value(find("nextjs").unwrap()).unwrap();
    let example = serde_json::json!({
        "id": "nextjs", "name": "Next.js", "image_id": "miosa-sandbox", "category": "web",
        "cpu_count": 2, "memory_mb": 2048, "disk_mb": 4096, "workdir": "/workspace",
        "preview_port": 3000, "install_command": "npm install",
        "start_command": "npm run dev -- --hostname 0.0.0.0 --port 3000",
        "readiness_probe": {"type": "http", "url": "http://127.0.0.1:3000"},
    });
    for (field, value) in example.as_object().unwrap() {
        assert_eq!(&nextjs[field], value, "{field}");
    }
}

#[test]
fn an_app_is_started_at_any_port() {
    let start = super::start_command("static", Some(9000)).unwrap();
    assert_eq!(start, "python3 -m http.server 9000 --bind 0.0.0.0");
    assert_eq!(super::start_command("miosa-sandbox", Some(1)), None);
    for template in list(Aliases::Shown) {
        let start = template.start_command.unwrap_or_default();
        assert!(!start.contains('{'), "{start}");
    }
}

#[test]
fn every_template_but_the_first_has_a_spec_that_fits_it() {
    for template in list(Aliases::Hidden) {
        let Some(spec) = spec(&template.id) else {
            assert_eq!(template.id, DEFAULT_TEMPLATE);
            continue;
        };
        let spec = BuildSpec::parse(&spec, &BuildLimits::default()).unwrap();
        assert_eq!(spec.from, IMAGE);
        let shape = (spec.vcpu, spec.memory_mib, spec.disk_mib);
        let said = (template.cpu_count, template.memory_mb, template.disk_mb);
        assert_eq!(shape, said, "{}", template.id);
        // What runs in the snapshot is what a start gives.
        assert_eq!(spec.start_cmd, template.start_command);
        assert_eq!(spec.workdir, template.workdir);
        assert_eq!(spec.artifact_paths, template.artifact_paths);
        let port = spec.preview_port.expect("a browser can open it");
        assert!(template.preview_port.is_none_or(|own| own == port));
        let ready = spec.ready_cmd.unwrap();
        assert!(ready.contains(&format!("127.0.0.1:{port}")), "{ready}");
        // An error in the middle of a step is one.
        for step in spec.steps {
            assert!(step.run.unwrap().starts_with("set -eu\n"));
        }
    }
}
