use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::wait::WaitStatus;

use super::*;

/// What the program wrote, and how it ended.
fn ran(file: &Path, args: &[&str], run_as: Option<(Uid, Gid)>) -> io::Result<(String, WaitStatus)> {
    let file = CString::new(file.as_os_str().as_bytes()).unwrap();
    let args: Vec<CString> = args.iter().map(|arg| CString::new(*arg).unwrap()).collect();
    let null = File::open("/dev/null").unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    let stdio = [null.as_fd(), writer.as_fd(), writer.as_fd()];
    let pid = spawn(&Program { file: &file, args: &args, env: &[c"A=1".to_owned()], stdio, run_as })?;
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    Ok((text, waitpid(pid, None).unwrap()))
}

fn sh(text: &str, run_as: Option<(Uid, Gid)>) -> io::Result<String> {
    ran(Path::new("/bin/sh"), &["name", "-c", text, "zero", "one"], run_as).map(|(text, _)| text)
}

#[test]
fn a_program_gets_its_name_its_arguments_and_its_environment_and_nothing_more() {
    let text =
        sh("echo $0 $*; tr '\\0' ' ' </proc/$$/cmdline; echo; tr '\\0' ' ' </proc/$$/environ", None).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>()[..2],
        [
            "zero one",
            "name -c echo $0 $*; tr '\\0' ' ' </proc/$$/cmdline; echo; tr '\\0' ' ' </proc/$$/environ zero one "
        ]
    );
    assert_eq!(text.lines().last(), Some("A=1 "));
}

#[test]
fn an_exit_and_a_death_are_told_apart() {
    let end = |text| ran(Path::new("/bin/sh"), &["sh", "-c", text], None).unwrap().1;
    assert!(matches!(end("exit 7"), WaitStatus::Exited(_, 7)));
    assert!(matches!(end("kill -9 $$"), WaitStatus::Signaled(..)));
}

#[test]
fn a_text_without_an_interpreter_is_an_error_and_no_shell_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text");
    fs::write(&file, "echo hi\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    for run_as in [None, nix::unistd::geteuid().is_root().then(|| (Uid::from_raw(0), Gid::from_raw(0)))] {
        assert_eq!(ran(&file, &["text"], run_as).unwrap_err().raw_os_error(), Some(libc::ENOEXEC));
    }
}

#[test]
fn a_failed_start_tells_its_reason_and_leaves_no_process() {
    let missing = ran(Path::new("/nonexistent"), &["x"], None).unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    let folder = ran(Path::new("/"), &["x"], None).unwrap_err();
    assert_eq!(folder.raw_os_error(), Some(libc::EACCES));
    let me = std::process::id();
    let children = fs::read_to_string(format!("/proc/self/task/{}/children", nix::unistd::gettid())).unwrap();
    assert_eq!(children, "", "of {me}");
}

#[test]
fn an_id_that_would_leave_this_processs_own_is_refused() {
    let (none, some) = (u32::MAX, 12_345);
    for (uid, gid) in [(none, some), (some, none), (none, none)] {
        let error = sh("id", Some((Uid::from_raw(uid), Gid::from_raw(gid)))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
