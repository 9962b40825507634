//! A jailer and a Firecracker that only speak the API: this test's own
//! executable under their names.
//!
//! Beside the program lie what it is to do wrong and what it was asked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What both say of themselves.
pub(crate) const VERSION: &str = "1.17.0";

/// The guest's memory.
pub(crate) const MEMORY: usize = 8 << 20;

/// Where a partial snapshot writes, and what.
pub(crate) const DIRTY: (u64, &[u8]) = (4096, b"written since");

/// How long a slow answer takes.
const SLOW: Duration = Duration::from_millis(50);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// 400 with a `fault_message`.
    Refuse,
    /// 500 with something else.
    Fail,
    /// It answers late, but well.
    Slow,
    /// The connection ends in the middle of the answer.
    Cut,
    /// The answer is no HTTP.
    Garbage,
    /// The process ends instead.
    Exit,
}

/// Which request meets which fault.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Behaviour {
    pub(crate) at: usize,
    pub(crate) fault: Fault,
}

/// One request as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Value,
}

/// The files beside the programs.
pub(crate) fn behaviour_file(dir: &Path) -> PathBuf {
    dir.join("behaviour")
}

/// See [`behaviour_file`].
pub(crate) fn requests_file(dir: &Path) -> PathBuf {
    dir.join("requests")
}

/// Becomes one of the two if this process was started as one.
pub(crate) fn become_one_if_asked() {
    let mut args = std::env::args();
    let program = PathBuf::from(args.next().unwrap_or_default());
    let args: Vec<String> = args.collect();
    let done = match program.file_name().and_then(|name| name.to_str()) {
        Some("jailer") => jailer(&args),
        Some("firecracker") => firecracker(&program, &args),
        _ => return,
    };
    if let Err(error) = done {
        eprintln!("{}: {error}", program.display());
        exit(1);
    }
    exit(0);
}

fn option(args: &[String], name: &str) -> Option<String> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).cloned()
}

fn needed(args: &[String], name: &str) -> io::Result<String> {
    option(args, name).ok_or_else(|| io::Error::other(format!("no {name}")))
}

/// As the real one, but that the program enters its root itself, once it has
/// loaded its libraries.
fn jailer(args: &[String]) -> io::Result<()> {
    if args.iter().any(|arg| arg == "--version") {
        println!("Jailer v{VERSION}\n");
        return Ok(());
    }
    let id = needed(args, "--id")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if id.is_empty() || id.len() > 64 || !id.chars().all(legal) {
        return Err(io::Error::other(format!("{id} is not an id")));
    }
    let program = PathBuf::from(needed(args, "--exec-file")?);
    let name = program.file_name().unwrap_or_default();
    let base = PathBuf::from(needed(args, "--chroot-base-dir")?);
    let root = base.join(name).join(&id).join("root");
    fs::create_dir_all(root.join("run"))?;
    let number = |text: String| text.parse().map_err(io::Error::other);
    let uid: u32 = number(needed(args, "--uid")?)?;
    chown(&root, Some(uid), Some(number(needed(args, "--gid")?)?))?;
    let own = args.iter().skip_while(|arg| *arg != "--").skip(1);
    let error = Command::new(&program)
        .args(["--id", &id, "--root"])
        .arg(&root)
        .args(own)
        .exec();
    Err(error)
}

fn firecracker(program: &Path, args: &[String]) -> io::Result<()> {
    if args.iter().any(|arg| arg == "--version") {
        println!("Firecracker v{VERSION}\n");
        return Ok(());
    }
    let root = PathBuf::from(needed(args, "--root")?);
    // A whole path may be longer than an address takes.
    std::env::set_current_dir(&root)?;
    let socket = needed(args, "--api-sock")?;
    let socket = socket.trim_start_matches('/');
    let beside = program.parent().unwrap_or(Path::new("/"));
    let behaviour = fs::read(behaviour_file(beside)).ok();
    let behaviour = behaviour.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(requests_file(beside))?;
    let mut machine = Machine {
        root: PathBuf::from("/"),
        state: "Not started",
        log,
        behaviour,
        count: 0,
    };
    let listener = UnixListener::bind(socket)?;
    std::os::unix::fs::chroot(&root)?;
    for stream in listener.incoming() {
        // A client that goes away is nobody's fault.
        let _ = machine.serve(stream?);
    }
    Ok(())
}

struct Machine {
    root: PathBuf,
    state: &'static str,
    log: File,
    behaviour: Option<Behaviour>,
    count: usize,
}

impl Machine {
    fn serve(&mut self, mut stream: UnixStream) -> io::Result<()> {
        let Some(request) = read(&stream)? else {
            return Ok(());
        };
        writeln!(self.log, "{}", serde_json::to_string(&request)?)?;
        let fault = self.behaviour.filter(|it| it.at == self.count);
        self.count += 1;
        match fault.map(|it| it.fault) {
            None => {}
            Some(Fault::Slow) => std::thread::sleep(SLOW),
            Some(Fault::Exit) => exit(1),
            Some(Fault::Garbage) => return stream.write_all(b"what?\r\n\r\n"),
            Some(Fault::Cut) => return stream.write_all(b"HTTP/1.1 200 \r\nContent-Le"),
            Some(Fault::Refuse) => {
                let fault = json!({ "fault_message": "it was told to refuse" });
                return answer(&mut stream, "400 ", &fault.to_string());
            }
            Some(Fault::Fail) => return answer(&mut stream, "500 ", "oh dear"),
        }
        if request.method == "GET" {
            let instance = json!({
                "app_name": "Firecracker",
                "id": "fake",
                "state": self.state,
                "vmm_version": VERSION,
            });
            return answer(&mut stream, "200 ", &instance.to_string());
        }
        match self.carry_out(&request) {
            Ok(()) => answer(&mut stream, "204 ", ""),
            Err(error) => {
                let fault = json!({ "fault_message": error.to_string() });
                answer(&mut stream, "400 ", &fault.to_string())
            }
        }
    }

    fn carry_out(&mut self, request: &Request) -> io::Result<()> {
        let body = &request.body;
        let file = |name: &Value| {
            let name = name.as_str().unwrap_or_default();
            self.root.join(name.trim_start_matches('/'))
        };
        match request.path.as_str() {
            "/actions" => self.state = "Running",
            "/vm" if body["state"] == "Paused" => self.state = "Paused",
            "/vm" => self.state = "Running",
            "/boot-source" => {
                File::open(file(&body["kernel_image_path"]))?;
                File::open(file(&body["initrd_path"]))?;
            }
            path if path.starts_with("/drives/") => {
                File::open(file(&body["path_on_host"]))?;
            }
            "/snapshot/create" => {
                fs::write(file(&body["snapshot_path"]), "devices")?;
                let memory = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(file(&body["mem_file_path"]))?;
                memory.set_len(MEMORY as u64)?;
                memory.write_all_at(DIRTY.1, DIRTY.0)?;
            }
            "/snapshot/load" => {
                fs::read(file(&body["snapshot_path"]))?;
                fs::read(file(&body["mem_backend"]["backend_path"]))?;
                let runs = body["resume_vm"] == true;
                self.state = if runs { "Running" } else { "Paused" };
            }
            _ => {}
        }
        Ok(())
    }
}

fn read(stream: &UnixStream) -> io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, path) = words
        .next()
        .zip(words.next())
        .ok_or_else(|| io::Error::other("no request line"))?;
    let (mut length, mut content_type) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(io::Error::other)?,
            "content-type" => content_type = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request {
        method,
        path,
        content_type,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }))
}

fn answer(stream: &mut UnixStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
    )?;
    if length > 0 {
        write!(
            stream,
            "Content-Type: application/json\r\nContent-Length: {length}\r\n"
        )?;
    }
    write!(stream, "\r\n{body}")
}
