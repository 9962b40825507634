use super::{Aliases, find, list};

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
