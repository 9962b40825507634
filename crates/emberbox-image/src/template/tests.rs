use super::*;
use crate::progress::Silent;

fn home_with(template: &str, layers: &[&str]) -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path()).unwrap();
    for file in ["kernels/bzImage", "initramfs/a.cpio"].iter().chain(layers) {
        fs::write(home.root().join(file), file).unwrap();
    }
    let manifest = Manifest {
        name: template.to_owned(),
        boot: Boot::Own {
            kernel: "kernels/bzImage".into(),
            initramfs: "initramfs/a.cpio".into(),
            digest: "d".to_owned(),
        },
        layers: layers.iter().map(PathBuf::from).collect(),
        env: BTreeMap::new(),
        app: None,
    };
    let file = home.rootfs().join(format!("{template}.json"));
    fs::write(file, to_json(&manifest)).unwrap();
    (dir, home)
}

#[test]
fn a_complete_template_is_found() {
    let (_dir, home) = home_with("mine", &["rootfs/0.erofs", "rootfs/1.erofs"]);
    let images = images(&home, "mine").unwrap().unwrap();
    assert_eq!(images.kernel, home.root().join("kernels/bzImage"));
    assert_eq!(
        images.layers,
        ["rootfs/0.erofs", "rootfs/1.erofs"].map(|layer| home.root().join(layer))
    );
    assert_eq!(names(&home).unwrap(), ["mine"]);
}

#[test]
fn a_template_that_lacks_a_file_is_not_there() {
    let (_dir, home) = home_with("mine", &["rootfs/0.erofs"]);
    fs::remove_file(home.rootfs().join("0.erofs")).unwrap();
    assert_eq!(images(&home, "mine").unwrap(), None);
}

#[test]
fn any_name_may_be_asked_for() {
    let (_dir, home) = home_with("mine", &[]);
    fs::write(home.rootfs().join(".recipe-1.json"), "{}").unwrap();
    let long = "x".repeat(5000);
    for name in ["", "other", "../rootfs/mine", ".recipe-1", "mine\0", &long] {
        assert_eq!(images(&home, name).unwrap(), None, "{name:?}");
    }
}

#[test]
fn a_damaged_template_is_named() {
    let (_dir, home) = home_with("mine", &[]);
    fs::write(home.rootfs().join("mine.json"), "{").unwrap();
    let error = images(&home, "mine").unwrap_err();
    assert!(error.to_string().contains("mine.json"), "{error}");
}

#[test]
fn only_templates_with_a_recipe_are_made() {
    let (_dir, home) = home_with("mine", &[]);
    let request = EnsureRequest {
        template: "mine",
        agent: b"agent",
        kernel: &KernelChoice::Distribution,
        trust_host_ca: false,
        refresh: false,
    };
    let error = ensure(&home, &request, &Silent).unwrap_err();
    assert!(matches!(error, ImageError::UnknownTemplate(name) if name == "mine"));
}

#[test]
fn a_manifest_of_an_older_server_is_read() {
    let (_dir, home) = home_with("mine", &["rootfs/0.erofs"]);
    let text = r#"{"name":"mine","kernel":"kernels/bzImage","initramfs":"initramfs/a.cpio",
        "layers":["rootfs/0.erofs"],"digest":"d"}"#;
    fs::write(home.rootfs().join("mine.json"), text).unwrap();
    let images = images(&home, "mine").unwrap().unwrap();
    assert_eq!(images.digest, "d");
    assert_eq!(images.app, None);
}

#[test]
fn what_was_published_is_no_word_on_what_is_made_anew() {
    let (_dir, home) = home_with("mine", &["rootfs/0.erofs"]);
    let described = artifact::described_at(&home, "mine");
    fs::write(&described, "{}").unwrap();
    let mut image = manifest(&home, "mine").unwrap().unwrap();
    record(&home, &image, &Silent).unwrap();
    assert!(described.exists());

    image.layers.clear();
    record(&home, &image, &Silent).unwrap();
    assert!(!described.exists());
    assert_eq!(manifest(&home, "mine").unwrap(), Some(image));
}
