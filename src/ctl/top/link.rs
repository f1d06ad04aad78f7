//! The connection to the daemon, on a thread of its own: whatever the daemon does, keys are heard.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::control::{Reply, Request};
use crate::ctl::args::Way;
use crate::ctl::ask::Daemon;
use crate::exit::Failure;

/// What came of a question.
pub(super) type Told = (Request, Result<Reply, Failure>);

/// The near end.
pub(super) struct Link {
    questions: Sender<Request>,
    told: Receiver<Told>,
}

impl Link {
    /// Starts the thread; it ends with the program.
    pub(super) fn start(way: Way, daemon: Daemon) -> io::Result<Link> {
        let ((questions, asked), (tell, told)) = (channel(), channel());
        thread::Builder::new().spawn(move || serve(&way, daemon, &asked, &tell))?;
        Ok(Link { questions, told })
    }

    /// Asks as soon as all earlier questions are answered.
    pub(super) fn ask(&self, request: Request) {
        // Without the thread nothing is answered, and the screen says that.
        self.questions.send(request).unwrap_or_default();
    }

    /// The next answer, if there is one.
    pub(super) fn told(&self) -> Option<Told> {
        self.told.try_recv().ok()
    }
}

/// One connection, made again after each failure: the daemon hangs up after a refusal.
fn serve(way: &Way, daemon: Daemon, asked: &Receiver<Request>, tell: &Sender<Told>) {
    let mut open = Some(daemon);
    for request in asked {
        let daemon = open.take().map_or_else(|| Daemon::connect(way), Ok);
        let result = daemon.and_then(|mut daemon| {
            let reply = daemon.ask(&request)?;
            open = Some(daemon);
            Ok(reply)
        });
        if tell.send((request, result)).is_err() {
            return;
        }
    }
}
