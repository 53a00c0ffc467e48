//! Tables without borders: text left, numbers right, whole columns or none.

use unicode_width::UnicodeWidthStr as _;

use super::printable::Printable;

/// Below this width each record becomes lines of key and value.
const NARROW: usize = 60;

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// The heading, in capitals.
    pub(crate) title: &'static str,
    /// Where the cells stand.
    pub(crate) align: Align,
    /// Its turn to go where the terminal is too narrow; `None` if it never goes.
    pub(crate) drop: Option<u8>,
}

impl Column {
    /// A column of text that never goes.
    pub(crate) const fn text(title: &'static str) -> Self {
        Self { title, align: Align::Left, drop: None }
    }

    /// A column of numbers that never goes.
    pub(crate) const fn number(title: &'static str) -> Self {
        Self { title, align: Align::Right, drop: None }
    }

    /// The same column, going as the `turn`-th.
    pub(crate) const fn drops(self, turn: u8) -> Self {
        Self { drop: Some(turn), ..self }
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(Column, Vec<Printable>)>,
    rows: usize,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.iter().map(|column| (*column, Vec::new())).collect(), rows: 0 }
    }

    /// Adds a row: a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Printable>) {
        for ((_, column), cell) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
        self.rows = self.rows.saturating_add(1);
    }

    /// The table, with every column whole, or fitted to a terminal's width.
    pub(crate) fn render(&self, width: Option<usize>) -> String {
        let mut shown: Vec<Shown<'_>> = self.columns.iter().map(Shown::new).collect();
        if let Some(width) = width {
            while total(&shown) > width {
                let next = shown.iter().filter_map(|c| c.column.drop).min();
                let Some(turn) = next else { break };
                shown.retain(|c| c.column.drop != Some(turn));
            }
            if width < NARROW || total(&shown) > width {
                return self.records();
            }
        }
        let mut text = line(shown.iter().map(|c| (c, c.column.title)));
        for row in 0..self.rows {
            let cell = |c: &Shown<'_>| c.cells.get(row).map_or("", Printable::as_str).to_owned();
            let cells: Vec<String> = shown.iter().map(cell).collect();
            text.push_str(&line(shown.iter().zip(cells.iter().map(String::as_str))));
        }
        text
    }

    /// Every record as lines of key and value.
    fn records(&self) -> String {
        let keys = self.columns.iter().map(|(column, _)| column.title.len()).max().unwrap_or(0);
        let record = |row: usize| {
            let line = |(column, cells): &(Column, Vec<Printable>)| {
                let key = column.title.to_lowercase();
                let value = cells.get(row).map_or("", Printable::as_str);
                format!("{key:keys$}  {value}\n")
            };
            self.columns.iter().map(line).collect::<String>()
        };
        (0..self.rows).map(record).collect::<Vec<_>>().join("\n")
    }
}

/// A column that is shown.
struct Shown<'a> {
    column: Column,
    cells: &'a [Printable],
    width: usize,
}

impl<'a> Shown<'a> {
    fn new((column, cells): &'a (Column, Vec<Printable>)) -> Self {
        let widest = cells.iter().map(Printable::width).max().unwrap_or(0);
        Self { column: *column, cells, width: widest.max(column.title.len()) }
    }
}

const GAP: usize = 2;

fn total(columns: &[Shown<'_>]) -> usize {
    let cells = columns.iter().map(|c| c.width.saturating_add(GAP)).sum::<usize>();
    cells.saturating_sub(GAP)
}

fn line<'a>(cells: impl Iterator<Item = (&'a Shown<'a>, &'a str)>) -> String {
    let mut line = String::new();
    for (number, (column, cell)) in cells.enumerate() {
        if number > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        let padding = " ".repeat(column.width.saturating_sub(cell.width()));
        match column.column.align {
            Align::Left => line.extend([cell, &padding]),
            Align::Right => line.extend([padding.as_str(), cell]),
        }
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            Column::text("IMAGE"),
            Column::text("DIGEST").drops(2),
            Column::number("SIZE"),
            Column::text("USED").drops(1),
        ]);
        let cell = |text| Printable::new(text, false);
        table.row(["golang:2", "9c1e4f0a77d2", "1.2 GiB", "3m ago"].map(cell));
        table.row(["a\x1b[2J", "e81f6b2244c0", "905.0 MiB", "2d ago"].map(cell));
        table
    }

    #[test]
    fn a_pipe_gets_every_column_whole() {
        assert_eq!(
            table().render(None),
            "IMAGE     DIGEST             SIZE  USED\n\
             golang:2  9c1e4f0a77d2    1.2 GiB  3m ago\n\
             a\\x1b[2J  e81f6b2244c0  905.0 MiB  2d ago\n"
        );
    }

    #[test]
    fn columns_go_in_their_order_and_nothing_wraps() {
        let mut wide = table();
        let cell = |text: &str| Printable::new(text, false);
        wide.row([cell(&"n".repeat(40)), cell("0"), cell("1 B"), cell("1s ago")]);
        for (width, titles) in
            [(80, "IMAGE DIGEST SIZE USED"), (70, "IMAGE DIGEST SIZE"), (60, "IMAGE SIZE")]
        {
            let text = wide.render(Some(width));
            let first: Vec<_> = text.lines().next().unwrap().split_whitespace().collect();
            assert_eq!(first.join(" "), titles, "{width}");
            assert!(text.lines().all(|line| line.width() <= width), "{text}");
        }
    }

    #[test]
    fn a_narrow_terminal_gets_records() {
        let text = table().render(Some(40));
        assert!(text.starts_with("image   golang:2\ndigest  9c1e4f0a77d2\n"), "{text}");
        assert_eq!(text.lines().count(), 9);
    }

    #[test]
    fn an_empty_table_is_its_heading() {
        assert_eq!(Table::new(&[Column::text("RUN")]).render(None), "RUN\n");
    }
}
