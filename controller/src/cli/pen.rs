//! Signs, colours and bars, in what the terminal at hand can show.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::printable::Printable;

/// What the terminal at hand can show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Pen {
    /// Whether only ASCII is written.
    pub(crate) ascii: bool,
    /// Whether colours are written.
    pub(crate) colour: bool,
}

/// A sign: it always says what a colour only repeats.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign {
    /// Going on.
    Running,
    /// Not begun.
    Waiting,
    /// Done.
    Done,
    /// Trying again.
    Again,
    /// Worth a look.
    Warning,
    /// Failed or refused.
    Failed,
}

/// What a colour stands for: one of the terminal's own 16, on its own background.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ink {
    /// No colour.
    Plain,
    /// Done.
    Good,
    /// A warning, or trying again.
    Warn,
    /// Failed.
    Bad,
    /// What can be pasted.
    Paste,
    /// What repeats.
    Dim,
    /// The name in question.
    Bold,
}

impl Ink {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Paste => "36",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

impl Sign {
    const fn glyphs(self) -> (&'static str, &'static str) {
        match self {
            Self::Running => ("●", "*"),
            Self::Waiting => ("·", "."),
            Self::Done => ("✓", "+"),
            Self::Again => ("↻", "~"),
            Self::Warning => ("!", "!"),
            Self::Failed => ("✗", "x"),
        }
    }

    /// Its colour.
    pub(crate) const fn ink(self) -> Ink {
        match self {
            Self::Running | Self::Waiting => Ink::Plain,
            Self::Done => Ink::Good,
            Self::Again | Self::Warning => Ink::Warn,
            Self::Failed => Ink::Bad,
        }
    }
}

impl Pen {
    /// Neither colours nor anything but ASCII.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { ascii: true, colour: false };

    /// A sign as this terminal shows it.
    pub(crate) const fn sign(self, sign: Sign) -> &'static str {
        let (fine, ascii) = sign.glyphs();
        if self.ascii { ascii } else { fine }
    }

    /// A text from outside, made harmless.
    pub(crate) fn text(self, text: &str) -> Printable {
        Printable::new(text, self.ascii)
    }

    /// A text in a colour, or as it is where there are none.
    pub(crate) fn ink(self, ink: Ink, text: &str) -> String {
        if self.colour && ink != Ink::Plain && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", ink.code())
        } else {
            text.to_owned()
        }
    }

    /// A sign in its colour.
    pub(crate) fn signed(self, sign: Sign) -> String {
        self.ink(sign.ink(), self.sign(sign))
    }

    /// A bar of `width` columns, filled as far as `done` of `total` goes.
    pub(crate) fn bar(self, done: u64, total: u64, width: usize) -> String {
        let (full, head, rest) = if self.ascii { ("#", ">", "-") } else { ("━", "╸", "─") };
        let share = u128::from(done.min(total)).saturating_mul(width as u128);
        let filled = share.checked_div(u128::from(total)).unwrap_or(0);
        let filled = usize::try_from(filled).unwrap_or(width);
        let empty = width.saturating_sub(filled);
        let head = if empty > 0 { head } else { "" };
        let rest = rest.repeat(empty.saturating_sub(1));
        format!("{}{head}{rest}", full.repeat(filled))
    }
}

/// A line of bounded width; what does not fit is not added.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pen: Pen,
    text: String,
    width: usize,
    limit: usize,
}

impl Line {
    /// An empty line of at most `limit` columns.
    pub(crate) const fn new(pen: Pen, limit: usize) -> Self {
        Self { pen, text: String::new(), width: 0, limit }
    }

    /// Adds a text that is harmless already, as far as it fits.
    pub(crate) fn add(mut self, ink: Ink, text: &str) -> Self {
        let mut fitting = String::new();
        for character in text.chars() {
            let width = self.width.saturating_add(character.width().unwrap_or(0));
            if width > self.limit {
                break;
            }
            self.width = width;
            fitting.push(character);
        }
        self.text.push_str(&self.pen.ink(ink, &fitting));
        self
    }

    /// Adds spaces until `text` ends at the right edge, and `text`.
    pub(crate) fn add_right(self, ink: Ink, text: &str) -> Self {
        let gap = self.limit.saturating_sub(self.width).saturating_sub(text.width());
        self.add(Ink::Plain, &" ".repeat(gap.max(1))).add(ink, text)
    }

    /// How many columns are left.
    pub(crate) const fn room(&self) -> usize {
        self.limit.saturating_sub(self.width)
    }

    /// The line.
    pub(crate) fn done(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Pen = Pen { ascii: false, colour: false };

    #[test]
    fn a_bar_is_as_wide_as_asked_at_every_share() {
        for (done, bar) in [(0, ">---"), (1, "#>--"), (2, "##>-"), (4, "####"), (9, "####")] {
            assert_eq!(Pen::PLAIN.bar(done, 4, 4), bar);
        }
        assert_eq!(FINE.bar(1, 2, 4), "━━╸─");
        assert_eq!(Pen::PLAIN.bar(1, 0, 3), ">--");
        assert_eq!(Pen::PLAIN.bar(u64::MAX, u64::MAX, 2), "##");
    }

    #[test]
    fn a_line_never_grows_past_its_limit() {
        let line = Line::new(FINE, 8).add(Ink::Plain, "abc").add(Ink::Plain, "図図図図");
        assert_eq!(line.done(), "abc図図");
        let line = Line::new(FINE, 10).add(Ink::Plain, "abc").add_right(Ink::Plain, "2s");
        assert_eq!(line.done(), "abc     2s");
    }

    #[test]
    fn without_colours_there_is_no_escape() {
        assert_eq!(FINE.ink(Ink::Bad, "x"), "x");
        assert_eq!(Pen { colour: true, ..FINE }.ink(Ink::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
