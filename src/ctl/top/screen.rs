//! The terminal: taken for as long as this lives, and given back as it was.

use std::io::{self, stdout};
use std::panic;

use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;

use super::draw;
use super::view::{Redraw, View};

/// A screen of one's own.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes it. A panic gives it back before it is told, also where that ends the program at once.
    pub(super) fn open() -> io::Result<Screen> {
        let screen = Screen(ratatui::try_init()?);
        let give_back = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            execute!(stdout(), Show).unwrap_or_default();
            give_back(info);
        }));
        Ok(screen)
    }

    /// Draws what is seen now; all of it, where something else may have written on the terminal.
    pub(super) fn draw(&mut self, view: &mut View) -> io::Result<()> {
        match std::mem::replace(&mut view.redraw, Redraw::Changes) {
            Redraw::All => self.0.clear()?,
            Redraw::Changes => {}
        }
        self.0.draw(|frame| draw::draw(frame, view)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        self.0.show_cursor().unwrap_or_default();
        ratatui::try_restore().unwrap_or_default();
    }
}
