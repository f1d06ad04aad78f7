//! What a script prints: bytes in, bounded and escaped lines out.
//!
//! # Security considerations
//!
//! A script may print what a stranger sent. In a line that comes out, everything that could end it, move the cursor,
//! colour the terminal or change the order of what is read is escaped, and so is the backslash: an escape that is
//! seen was written here. It is bounded three ways: a line, a job, and the number of lines (a job that prints nothing
//! but newlines).

/// Which of a script's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        })
    }
}

/// One job's output.
#[derive(Debug)]
pub struct Output {
    left: usize,
    state: State,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A line, escaped, at most [`LINE_MAX`] bytes and the mark.
    Line(Stream, String),
    /// The job's `max_output` is used up: nothing further comes out.
    Cut,
}

/// Whether output still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Yes.
    Taking,
    /// `max_output` is used up: what else is printed is thrown away.
    Cut,
}

/// Bytes of a line, escaped; what is longer is cut there and marked with [`MARK`].
pub const LINE_MAX: usize = 1024;

/// Behind a line that was cut. No script can print it: its backslash would come out doubled.
pub const MARK: &str = "\\cut";

/// A line counts as at least this many bytes of `max_output`.
pub const LINE_COST: usize = 16;

impl Output {
    /// At most `max_output` bytes come out, both streams together.
    pub fn new(max_output: usize) -> Output {
        Output { left: max_output, state: State::Taking, stdout: Vec::new(), stderr: Vec::new() }
    }

    /// Takes what was printed.
    pub fn push(&mut self, stream: Stream, mut bytes: &[u8], out: &mut impl FnMut(Piece)) {
        while self.state == State::Taking && !bytes.is_empty() {
            let whole = bytes.iter().position(|byte| *byte == b'\n');
            let (part, rest) = bytes.split_at(whole.map_or(bytes.len(), |end| end.saturating_add(1)));
            let (taken, beyond) = part.split_at(part.len().min(self.left));
            self.left = self.left.saturating_sub(taken.len());
            let line = self.line(stream);
            let text = taken.strip_suffix(b"\n").unwrap_or(taken);
            // One byte above the maximum makes `escape` mark the line as cut.
            let room = LINE_MAX.saturating_add(1).saturating_sub(line.len());
            line.extend(text.iter().take(room));
            if !beyond.is_empty() {
                self.finish(out);
                self.state = State::Cut;
                out(Piece::Cut);
            } else if whole.is_some() {
                let unpaid = LINE_COST.saturating_sub(line.len().saturating_add(1));
                out(Piece::Line(stream, escape(line)));
                line.clear();
                self.left = self.left.saturating_sub(unpaid);
            }
            bytes = rest;
        }
    }

    /// The script is gone: last lines without a newline come out.
    pub fn finish(&mut self, out: &mut impl FnMut(Piece)) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = std::mem::take(self.line(stream));
            if !line.is_empty() {
                out(Piece::Line(stream, escape(&line)));
            }
        }
    }

    /// Whether output still counts.
    pub fn state(&self) -> State {
        self.state
    }

    fn line(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// Text that stays on one line and is read in the order in which it stands, at most [`LINE_MAX`] bytes; what is longer
/// is cut between two characters and marked with [`MARK`].
///
/// `\\`, `\t`, `\r`, `\n`; `\x1b` for other control characters below U+0080 and for bytes that are no UTF-8;
/// `\u{202e}` for other control, format and line-separating characters.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut add = |piece: &str| {
        let fits = text.len().saturating_add(piece.len()) <= LINE_MAX;
        text.push_str(if fits { piece } else { MARK });
        fits
    };
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().chars().all(|c| match c {
            '\\' | '\t' | '\r' | '\n' => add(&c.escape_default().to_string()),
            '\0'..='\x1f' | '\x7f' => add(&format!("\\x{:02x}", u32::from(c))),
            c if deceives(c) => add(&c.escape_unicode().to_string()),
            c => add(c.encode_utf8(&mut [0; 4])),
        });
        if !valid || !chunk.invalid().iter().all(|byte| add(&format!("\\x{byte:02x}"))) {
            break;
        }
    }
    text
}

/// Control characters beyond ASCII, format characters (Unicode category Cf: bidirectional controls, zero-width
/// characters, tags), and the line and paragraph separators.
fn deceives(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests;
