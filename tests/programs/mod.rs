//! `siglatch` and `siglatchctl`, run in a folder of their own.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may")]
#![allow(clippy::disallowed_methods, reason = "tests start the programs")]

use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey};

/// A folder that is the programs' current one, with `home` in it.
pub(crate) struct Desk(tempfile::TempDir);

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    /// With a server in `srv` whose action is `hello`, and its user alice joined as `office`. She knocks `host`, and waits for
    /// no answer.
    pub(crate) fn with_server(host: &str, socket: &UdpSocket) -> Desk {
        let desk = Desk::new();
        let port = socket.local_addr().unwrap().port();
        let listen = format!("0.0.0.0:{port}");
        desk.ctl(&["init", "srv", "--listen", &listen, "--host", host]).ok();
        let config = desk.read("srv/siglatchd.toml").replace("reply = \"receipt\"", "reply = \"never\"");
        desk.write("srv/siglatchd.toml", config, 0o600);
        let config = ["--config", "srv/siglatchd.toml"];
        desk.ctl(
            &[&["user", "add", "alice", "--action", "hello", "--profile-name", "office"][..], &config]
                .concat(),
        )
        .ok();
        desk.siglatch(&["join", "alice.invite.toml"]).ok();
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a file with this mode.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    pub(crate) fn siglatch(&self, args: &[&str]) -> Said {
        self.run(env!("CARGO_BIN_EXE_siglatch"), args, b"")
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> Said {
        self.run(env!("CARGO_BIN_EXE_siglatchctl"), args, b"")
    }

    pub(crate) fn run(&self, program: &str, args: &[&str], stdin: &[u8]) -> Said {
        let mut child = Command::new(program)
            .args(args)
            .current_dir(self.0.path())
            .env("HOME", self.path("home"))
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that needs no input may be gone already.
        drop(child.stdin.take().unwrap().write_all(stdin));
        let output = child.wait_with_output().unwrap();
        Said {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap(),
        }
    }

    /// Runs a shell command at a terminal of its own, where `keys` are typed once it has said `prompt`.
    pub(crate) fn at_terminal(&self, command: &str, prompt: &str, keys: &str) -> Said {
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", command, "/dev/null"])
            .current_dir(self.0.path())
            .env("HOME", self.path("home"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut typing, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut out = Vec::new();
        while !String::from_utf8_lossy(&out).contains(prompt) {
            let mut byte = [0];
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&out));
            out.extend(byte);
        }
        typing.write_all(keys.as_bytes()).unwrap();
        screen.read_to_end(&mut out).unwrap();
        let code = child.wait().unwrap().code().unwrap();
        Said { out: String::from_utf8(out).unwrap(), err: String::new(), code }
    }

    /// `siglatch knock` with the options that stand in a profile's place.
    pub(crate) fn direct(&self, socket: &UdpSocket, more: &[&str]) -> Vec<String> {
        let port = socket.local_addr().unwrap().port().to_string();
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        let (pem, key) = (path("srv/server.pub.pem"), path("srv/keys/alice.hmac"));
        let to = ["knock", "--host", "127.0.0.1", "--port", &port, "--user-id", "1"];
        let keys = ["--server-key", &pem, "--hmac-key", &key];
        let args = to.iter().chain(&keys).chain(more);
        args.map(|arg| (*arg).to_owned()).collect()
    }

    /// Opens a datagram with the server's key, by the `rsa` crate.
    pub(crate) fn open(&self, datagram: &[u8]) -> Vec<u8> {
        let key = RsaPrivateKey::from_pkcs8_pem(&self.read("srv/server.key.pem")).unwrap();
        key.decrypt(Pkcs1v15Encrypt, datagram).unwrap()
    }
}

impl Said {
    /// It ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Said {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// It ended with this code, said this on standard error, and nothing on standard output.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, message: &str) -> Said {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(message), "{message:?} is not in {}", self.err);
        assert_eq!(self.out, "");
        self
    }
}

/// A socket that waits for a datagram, but not for ever.
pub(crate) fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// The next datagram.
pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).expect("a datagram arrives");
    buffer[..len].to_vec()
}

/// Nothing was sent: what was would be here by now, loopback delivers before `send` returns.
pub(crate) fn assert_silent(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 1]).is_err(), "something was sent");
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
