//! Where the frames and words go.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};

use anstream::ColorChoice;

use gauntlet_common::event::Event;

use super::frame::{frame, line};
use super::status::RunStatus;
use super::words::told;

/// Seconds between two lines where there is no terminal.
const EVERY: f64 = 30.0;
/// Of a terminal that does not say.
const WIDTH: usize = 80;
/// Keys of events that were told. A run has a few per fault and phase; past the bound an event may be told twice.
const MOST_KEYS: usize = 10_000;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A block redrawn in place, events above it.
    Terminal { colour: bool },
    /// A line now and then, and one for each event; no escape codes.
    Lines,
}

/// Shows a run while it goes on.
pub struct Progress {
    out: Box<dyn Write + Send>,
    mode: Mode,
    width: fn() -> usize,
    /// The latest state and how many lines of it are on the screen.
    last: Option<RunStatus>,
    drawn: usize,
    /// When the last line was written, in the scenario's time.
    line_at: f64,
    told: HashSet<String>,
}

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Terminals that know it show all in between at once; the others ignore it.
const BEGIN_UPDATE: &str = "\x1b[?2026h";
const END_UPDATE: &str = "\x1b[?2026l";
const CLEAR_BELOW: &str = "\x1b[J";
const CLEAR_LINE: &str = "\x1b[K";

impl Progress {
    /// On standard output, or on standard error where standard output is for the report (`--format json`).
    /// `NO_COLOR` takes the colours; a terminal that is none (`TERM=dumb`, a pipe, a file) gets lines.
    pub fn new(stdout_is_taken: bool) -> Self {
        let (terminal, choice): (bool, ColorChoice) = if stdout_is_taken {
            (io::stderr().is_terminal(), anstream::AutoStream::choice(&io::stderr()))
        } else {
            (io::stdout().is_terminal(), anstream::AutoStream::choice(&io::stdout()))
        };
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let mode =
            if terminal && !dumb { Mode::Terminal { colour: choice != ColorChoice::Never } } else { Mode::Lines };
        let out: Box<dyn Write + Send> = if stdout_is_taken { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        Self::to(out, mode, || terminal_width().unwrap_or(WIDTH))
    }

    /// Somewhere else; `width` is asked before each drawing, as terminals are resized.
    pub fn to(out: Box<dyn Write + Send>, mode: Mode, width: fn() -> usize) -> Self {
        Self { out, mode, width, last: None, drawn: 0, line_at: 0.0, told: HashSet::new() }
    }

    /// The new state of the run.
    pub fn update(&mut self, live: &RunStatus) {
        match self.mode {
            Mode::Terminal { .. } => {
                self.last = Some(live.clone());
                self.redraw("");
            }
            Mode::Lines if live.elapsed_s - self.line_at >= EVERY => {
                self.line_at = (live.elapsed_s / EVERY).floor() * EVERY;
                self.write(&format!("{}\n", line(live)));
            }
            Mode::Lines => {}
        }
    }

    /// Something that happened, if it is worth telling and was not told.
    pub fn event(&mut self, event: &Event) {
        let Some(told) = told(event) else { return };
        if let Some(key) = told.key
            && self.told.len() < MOST_KEYS
            && !self.told.insert(key)
        {
            return;
        }
        match self.mode {
            // Not cut to the width: it stays above the block, where a terminal may wrap it.
            Mode::Terminal { colour } => self.redraw(&told.line.paint(colour)),
            Mode::Lines => self.write(&format!("{}\n", told.line.paint(false))),
        }
    }

    /// What happens after the load. The block of a terminal shows it in its place; elsewhere it is a line.
    pub fn stage(&mut self, stage: &str) {
        if self.mode == Mode::Lines {
            self.write(&format!("{stage}\n"));
        }
    }

    /// Takes the block away and gives the cursor back; also done when dropped.
    pub fn finish(&mut self) {
        if self.drawn > 0 {
            let text = format!("{}{CLEAR_BELOW}{SHOW_CURSOR}", self.back());
            self.drawn = 0;
            self.write(&text);
        }
        self.last = None;
    }

    /// `above`, if any, and the block below it, in one write: nothing flickers.
    fn redraw(&mut self, above: &str) {
        let Mode::Terminal { colour } = self.mode else { return };
        let mut text = format!("{BEGIN_UPDATE}{HIDE_CURSOR}{}", self.back());
        if !above.is_empty() {
            text.push_str(above);
            text.push_str(CLEAR_LINE);
            text.push('\n');
        }
        self.drawn = 0;
        if let Some(live) = &self.last {
            for row in frame(live, (self.width)(), colour).lines() {
                text.push_str(row);
                text.push_str(CLEAR_LINE);
                text.push('\n');
                self.drawn += 1;
            }
        }
        text.push_str(CLEAR_BELOW);
        if self.drawn == 0 {
            text.push_str(SHOW_CURSOR);
        }
        text.push_str(END_UPDATE);
        self.write(&text);
    }

    /// To the block's first line. It is overwritten, not cleared first: that would flicker.
    fn back(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}F", self.drawn) }
    }

    fn write(&mut self, text: &str) {
        // Nobody may be reading any more; the run goes on all the same.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// Columns of the terminal; none without one.
pub fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use gauntlet_common::event::{FaultEdge, What};

    use super::super::status::sample;
    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn raw(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        /// What a terminal shows after all that was written.
        fn shown(&self) -> Vec<String> {
            let raw = self.raw();
            let (mut rows, mut row, mut column) = (vec![Vec::new()], 0, 0);
            let mut rest = raw.chars();
            while let Some(c) = rest.next() {
                match c {
                    '\x1b' => {
                        assert_eq!(rest.next(), Some('['));
                        let mut code = String::new();
                        while !code.ends_with(|c: char| c.is_ascii_alphabetic()) {
                            code.extend(rest.next());
                        }
                        match code.chars().last() {
                            Some('F') => (row, column) = (row - code[..code.len() - 1].parse::<usize>().unwrap(), 0),
                            Some('K') => rows[row].truncate(column),
                            Some('J') => {
                                rows.truncate(row + 1);
                                rows[row].truncate(column);
                            }
                            _ => {}
                        }
                    }
                    '\n' => {
                        (row, column) = (row + 1, 0);
                        rows.resize(rows.len().max(row + 1), Vec::new());
                    }
                    c => {
                        if column < rows[row].len() {
                            rows[row][column] = c
                        } else {
                            rows[row].push(c)
                        }
                        column += 1;
                    }
                }
            }
            rows.into_iter().map(String::from_iter).filter(|row: &String| !row.is_empty()).collect()
        }
    }

    fn confirmed(agent: &str) -> Event {
        let what = What::Fault { id: "kill-app".into(), edge: FaultEdge::Confirmed, detail: "node n3 is down".into() };
        Event { at_us: 12_000_000, agent: Some(agent.into()), what }
    }

    #[test]
    fn on_a_terminal_the_block_is_redrawn_in_place_and_events_stay_above_it() {
        let screen = Screen::default();
        let mut progress = Progress::to(Box::new(screen.clone()), Mode::Terminal { colour: false }, || 80);
        for second in 0..5 {
            progress.update(&RunStatus { elapsed_s: f64::from(second), ..sample() });
        }
        progress.event(&confirmed("n1"));
        progress.update(&RunStatus { faults: Vec::new(), ..sample() });
        let shown = screen.shown();
        assert_eq!(shown[0], "   12.0s  fault kill-app: node n3 is down (confirmed)", "{shown:#?}");
        assert_eq!(shown.iter().filter(|row| row.contains("achieved")).count(), 1, "{shown:#?}");
        assert!(
            !shown.iter().any(|row| row.starts_with("faults")),
            "a shorter block leaves nothing behind: {shown:#?}"
        );
        progress.finish();
        assert_eq!(screen.shown().len(), 1, "only the event stays: {:#?}", screen.shown());
    }

    #[test]
    fn the_cursor_is_given_back_also_when_dropped() {
        let screen = Screen::default();
        let mut progress = Progress::to(Box::new(screen.clone()), Mode::Terminal { colour: true }, || 80);
        progress.update(&sample());
        assert!(screen.raw().rfind(HIDE_CURSOR) > screen.raw().rfind(SHOW_CURSOR));
        drop(progress);
        assert!(screen.raw().rfind(SHOW_CURSOR) > screen.raw().rfind(HIDE_CURSOR));
    }

    #[test]
    fn elsewhere_there_is_a_line_every_thirty_seconds_and_at_events_without_escape_codes() {
        let screen = Screen::default();
        let mut progress = Progress::to(Box::new(screen.clone()), Mode::Lines, || 80);
        for second in 0..=95 {
            progress.update(&RunStatus { elapsed_s: f64::from(second), ..sample() });
        }
        progress.event(&confirmed("n1"));
        progress.finish();
        let text = screen.raw();
        assert!(!text.contains('\x1b'));
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("   30.0s  phase peak") && text.contains("fault kill-app: node n3 is down"));
    }

    #[test]
    fn what_many_agents_report_is_told_once() {
        let screen = Screen::default();
        let mut progress = Progress::to(Box::new(screen.clone()), Mode::Lines, || 80);
        for agent in ["n1", "n2", "n3"] {
            progress.event(&confirmed(agent));
        }
        assert_eq!(screen.raw().lines().count(), 1);
    }

    #[test]
    fn a_terminal_that_is_gone_does_not_end_the_run() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut progress = Progress::to(Box::new(Gone), Mode::Lines, || 80);
        progress.event(&confirmed("n1"));
        progress.update(&RunStatus { elapsed_s: 31.0, ..sample() });
    }
}
