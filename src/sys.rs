//! The only `unsafe`.

/// Marks every open descriptor but 0, 1 and 2 close-on-exec: what this process was started with does not reach the
/// programs that it starts.
///
/// # Errors
///
/// When /proc/self/fd can't be read, or a descriptor can't be marked.
#[cfg(feature = "server")]
pub fn close_on_exec() -> std::io::Result<()> {
    use std::io::Error;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if fd <= 2 {
            continue;
        }
        // SAFETY: F_SETFD touches no memory and closes nothing. The flag is the one that everything opened by std has
        // already; a descriptor that was closed since it was listed gives EBADF.
        #[expect(unsafe_code, reason = "no safe wrapper takes a bare descriptor")]
        let marked = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        if marked == -1 && Error::last_os_error().raw_os_error() != Some(libc::EBADF) {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}
