//! Commands of a spec, as root's shell in a guest runs them.

use emberbox_core::app::{LOGS_PATH, PID_PATH};

/// A command that runs `line` as `user` in `workdir`, which is made, and given
/// to the user, if it is not there. Only what every image of the Debian family
/// has is used for that.
pub(super) fn as_user(user: &str, workdir: &str, line: &str) -> String {
    let directory = quote(workdir);
    if user == "root" {
        return format!(
            "[ -d {directory} ] || mkdir -p {directory}; cd {directory} || exit 126\n{line}"
        );
    }
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let (name, group, line) = (quote(name), quote(group), quote(line));
    // A number need not be anybody's; then it has no group but root's and no
    // home, as container engines have it.
    format!(
        "name={name} group={group} line={line}\n\
         if entry=$(getent passwd \"$name\"); then\n\
           uid=$(echo \"$entry\" | cut -d: -f3) groups=--init-groups\n\
           name=$(echo \"$entry\" | cut -d: -f1) home=$(echo \"$entry\" | cut -d: -f6)\n\
           group=${{group:-$(echo \"$entry\" | cut -d: -f4)}}\n\
         else uid=$name groups=--clear-groups home=/ group=${{group:-0}}\n\
         fi\n\
         [ -d {directory} ] || {{ mkdir -p {directory} && chown \"$uid\" {directory}; }}\n\
         cd {directory} || exit 126\n\
         shell=/bin/bash; [ -x $shell ] || shell=/bin/sh\n\
         HOME=$home USER=$name LOGNAME=$name exec setpriv --reuid=\"$uid\" --regid=\"$group\" \
         $groups -- $shell -c \"$line\""
    )
}

/// Runs the command of an app so that the control plane finds it in every
/// sandbox, where it looks for those it starts itself; `start` is what it is
/// called there. The shell leads the app's session. What the app writes goes
/// into the log, and to the agent, which tells the last of it when the app does
/// not get ready.
pub(super) fn found(start: &str, command: &str) -> String {
    found_at(PID_PATH, LOGS_PATH, start, command)
}

fn found_at(pid_path: &str, logs_path: &str, start: &str, command: &str) -> String {
    let start = quote(start);
    // `tee` begins before the app becomes another user: the log is root's. It
    // is waited for, so that the last words of an app that ends are told.
    format!(
        "mkdir -p \"$(dirname {pid_path})\" && echo $$ >{pid_path}\n\
         printf '$ %s\\n' {start} >{logs_path}\n\
         rm -f {logs_path}.pipe && mkfifo {logs_path}.pipe || exit 126\n\
         tee -a {logs_path} <{logs_path}.pipe & tee=$!\n\
         exec >{logs_path}.pipe 2>&1\n\
         rm {logs_path}.pipe\n\
         (\n{command}\n)\n\
         ended=$?; exec >&- 2>&-; wait $tee; exit $ended"
    )
}

/// One word of the shell, whatever is in it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
