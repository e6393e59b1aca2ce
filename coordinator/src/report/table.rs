//! Aligned tables for terminals. A table that is too wide first gives up its least important columns, then cuts its
//! flexible one.

use super::paint::{Line, Tone};

/// Between columns.
const GAP: usize = 2;
/// A flexible column is not cut below this.
const LEAST: usize = 14;

/// One column.
#[derive(Debug, Clone)]
pub struct Column {
    title: &'static str,
    right: bool,
    flexible: bool,
    /// 0: never given up; else the highest goes first.
    spare: u8,
}

impl Column {
    /// Text, to the left.
    pub const fn left(title: &'static str) -> Self {
        Self { title, right: false, flexible: false, spare: 0 }
    }
    /// Figures, to the right.
    pub const fn right(title: &'static str) -> Self {
        Self { title, right: true, flexible: false, spare: 0 }
    }
    /// The column that is cut when width is short.
    #[must_use]
    pub const fn flexible(mut self) -> Self {
        self.flexible = true;
        self
    }
    /// Given up when width is short, the highest number first.
    #[must_use]
    pub const fn spare(mut self, order: u8) -> Self {
        self.spare = order;
        self
    }
}

/// Columns and rows; every row has a cell for each column.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Line>>,
    indent: usize,
}

impl Table {
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new(), indent: 0 }
    }

    #[must_use]
    pub fn indent(mut self, by: usize) -> Self {
        self.indent = by;
        self
    }

    pub fn row(&mut self, mut cells: Vec<Line>) {
        cells.resize(self.columns.len(), Line::new());
        self.rows.push(cells);
    }

    /// Title line and rows, none wider than `width` as long as the columns that are never given up fit.
    pub fn lines(&self, width: usize) -> Vec<Line> {
        let widths = self.widths(width);
        let header = self.columns.iter().map(|c| Line::of(Tone::Dim, c.title)).collect::<Vec<_>>();
        let titled = self.columns.iter().any(|c| !c.title.is_empty());
        titled.then_some(&header).into_iter().chain(&self.rows).map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[Line], widths: &[Option<usize>]) -> Line {
        let mut line = Line::new().plain(" ".repeat(self.indent));
        let last = widths.iter().rposition(Option::is_some);
        for (i, (cell, column)) in row.iter().zip(&self.columns).enumerate() {
            let Some(width) = widths[i] else { continue };
            let cell = cell.clone().fit(width);
            let pad = " ".repeat(width - cell.width());
            line = if column.right { line.plain(pad).join(cell) } else { line.join(cell).plain(pad) };
            if Some(i) != last {
                line = line.plain(" ".repeat(GAP));
            }
        }
        line
    }

    /// Of each column, or none where it is given up.
    fn widths(&self, width: usize) -> Vec<Option<usize>> {
        let natural = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].width()).max().unwrap_or(0);
            cells.max(self.columns[i].title.chars().count())
        };
        let mut widths: Vec<Option<usize>> = (0..self.columns.len()).map(|i| Some(natural(i))).collect();
        loop {
            let kept = widths.iter().flatten().count();
            let total = self.indent + widths.iter().flatten().sum::<usize>() + GAP * kept.saturating_sub(1);
            let Some(over) = total.checked_sub(width).filter(|over| *over > 0) else { return widths };
            let flexible = self.columns.iter().position(|c| c.flexible);
            let room = flexible.and_then(|i| widths[i]).map_or(0, |w| w.saturating_sub(LEAST));
            if room >= over {
                let i = flexible.expect("there is room only in a flexible column");
                widths[i] = widths[i].map(|w| w - over);
                return widths;
            }
            let spare = (0..widths.len())
                .filter(|i| widths[*i].is_some() && self.columns[*i].spare > 0)
                .max_by_key(|i| self.columns[*i].spare);
            match spare {
                Some(i) => widths[i] = None,
                None => {
                    if let Some(i) = flexible {
                        widths[i] = widths[i].map(|w| w.min(LEAST));
                    }
                    return widths;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(vec![
            Column::left("name").flexible(),
            Column::right("requests"),
            Column::right("p99").spare(1),
            Column::right("max").spare(2),
        ]);
        table.row(
            ["a rather long name of a workload", "1,234,567", "12.3 ms", "1.2 s"]
                .map(|t| Line::of(Tone::Plain, t))
                .to_vec(),
        );
        table.row(["b", "1", "1 ms", "2 ms"].map(|t| Line::of(Tone::Plain, t)).to_vec());
        table
    }

    #[test]
    fn a_table_fits_the_terminal_whatever_its_width() {
        for width in [26, 40, 80, 120] {
            for line in table().lines(width) {
                assert!(line.width() <= width, "{width}: {}", line.paint(false));
            }
        }
    }

    #[test]
    fn the_least_important_column_goes_first_and_figures_stay_aligned() {
        let lines: Vec<String> = table().lines(40).iter().map(|l| l.paint(false)).collect();
        assert!(lines[0].contains("p99") && !lines[0].contains("max"), "{lines:#?}");
        assert_eq!(lines[1].chars().count(), lines[2].chars().count());
        let end = |line: &str, text: &str| line.split(text).next().map(|before| before.chars().count() + text.len());
        assert_eq!(end(&lines[1], "1,234,567"), end(&lines[2], "1"), "{lines:#?}");
    }
}
