//! Bytes between standard input and output and a connection, each way on a thread of its own and to its own end.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::mpsc::Sender;
use std::thread;

use nix::unistd::dup2_stdout;
use socket2::SockRef;

/// A way that has come to its end.
pub(super) enum Ended {
    /// From standard input to the other side.
    Up(io::Result<()>),
    /// From the other side to standard output.
    Down(io::Result<()>),
}

/// Begins both ways. Each tells how it ended.
pub(super) fn start<E>(stream: TcpStream, tell: &Sender<E>) -> io::Result<()>
where
    E: From<Ended> + Send + 'static,
{
    // Keys are typed one by one, and a peer that is gone has to be noticed: what ssh asks of its own connections. One
    // that is gone already is noticed below.
    drop(stream.set_nodelay(true));
    drop(SockRef::from(&stream).set_keepalive(true));
    let other = stream.try_clone()?;
    let (up_tell, down_tell) = (tell.clone(), tell.clone());
    // The receiver may have left for another reason; then the program ends.
    thread::Builder::new()
        .name("up".to_owned())
        .spawn(move || drop(up_tell.send(Ended::Up(up(&stream)).into())))?;
    thread::Builder::new()
        .name("down".to_owned())
        .spawn(move || drop(down_tell.send(Ended::Down(down(&other)).into())))?;
    Ok(())
}

/// The end of standard input is told to the other side, which may go on sending.
fn up(stream: &TcpStream) -> io::Result<()> {
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    match copy(stdin, stream).and_then(|()| stream.shutdown(Shutdown::Write)) {
        // The other side has closed. Whether well or not, it is the way down that knows.
        Err(error) if GONE.contains(&error.kind()) => Ok(()),
        other => other,
    }
}

/// The other side's end is told to whoever reads standard output, who may go on writing.
fn down(stream: &TcpStream) -> io::Result<()> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    copy(stream, stdout)?;
    Ok(dup2_stdout(File::open("/dev/null")?)?)
}

/// Not `io::copy`: on Linux that is splice(2), which while it waits for the socket holds the pipe's lock, and whoever
/// reads there would get each answer only with the next one.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => to.write_all(buffer.get(..len).unwrap_or_default())?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a pipe of Linux holds.
const BUFFER: usize = 64 << 10;

const GONE: [ErrorKind; 3] = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::NotConnected];
