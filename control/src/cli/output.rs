//! One answer, three forms: a table for people, one line an item for `grep` and `awk`, JSON.

use std::io::{self, Write as _};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use super::{
    error::CliError,
    style::{Style, printable},
};

/// A line on standard error. That nobody reads it (any more) is no reason to stop.
pub fn tell(text: &str) {
    // `eprintln!` would panic where the reader is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns with a heading
    Table,
    /// One line an item, no heading, tabs between the fields
    Compact,
    /// JSON; flow records and test results one a line
    Json,
}

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    pub format: Format,
    pub style: Style,
}

/// Narrowest terminal, in columns, in which cells are wrapped.
const ROOM_TO_WRAP: u16 = 100;

/// How a cell is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Note,
    Bad,
}

impl Out {
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, style: Style::of_stdout() }
    }

    /// One line of text.
    pub fn line(&self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }

    /// One JSON value on one line.
    pub fn json_line<T: Serialize>(&self, value: &T) -> Result<(), CliError> {
        self.line(&serde_json::to_string(value).map_err(|error| CliError::Failed(error.to_string()))?)
    }

    /// One JSON value over several lines.
    pub fn json<T: Serialize>(&self, value: &T) -> Result<(), CliError> {
        self.line(&serde_json::to_string_pretty(value).map_err(|error| CliError::Failed(error.to_string()))?)
    }

    /// Items, one a row. `nothing` is said in a table without rows.
    pub fn list<T: Serialize>(
        &self,
        items: &[T],
        columns: &[&str],
        nothing: &str,
        row: impl Fn(&T) -> Vec<Cell>,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.json(&items),
            Format::Table | Format::Compact => self.rows(columns, nothing, items.iter().map(row)),
        }
    }

    /// Rows of what has no JSON form of its own here. `nothing` is said in a table without rows.
    pub fn rows(
        &self,
        columns: &[&str],
        nothing: &str,
        rows: impl ExactSizeIterator<Item = Vec<Cell>>,
    ) -> Result<(), CliError> {
        if self.format == Format::Compact {
            return rows.into_iter().try_for_each(|row| {
                let fields: Vec<_> = row.iter().map(|cell| cell.content().replace('\n', " ")).collect();
                self.line(&fields.join("\t"))
            });
        }
        if rows.len() == 0 { self.line(nothing) } else { self.table(Some(columns), rows) }
    }

    /// One item, one field a row.
    pub fn item<T: Serialize>(&self, item: &T, fields: Vec<(&str, Cell)>) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.json(item),
            Format::Compact => fields.iter().try_for_each(|(name, value)| {
                self.line(&format!("{name}\t{}", value.content().replace('\n', " ")))
            }),
            Format::Table => self.table(
                None,
                fields
                    .into_iter()
                    .map(|(name, value)| vec![Cell::new(name).add_attribute(Attribute::Bold), value]),
            ),
        }
    }

    /// A plain table.
    pub fn table(
        &self,
        columns: Option<&[&str]>,
        rows: impl Iterator<Item = Vec<Cell>>,
    ) -> Result<(), CliError> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if self.style == Style::Plain {
            table.force_no_tty();
        }
        // Where little room is, or none is said, words in pieces read worse than lines that go on.
        if table.width().is_none_or(|width| width < ROOM_TO_WRAP) {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        if let Some(columns) = columns {
            table.set_header(columns.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        }
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }
}

/// A plain cell. Control characters are shown as escapes.
#[must_use]
pub fn cell(text: impl ToString) -> Cell {
    let text = text.to_string();
    Cell::new(text.split('\n').map(printable).collect::<Vec<_>>().join("\n"))
}

/// A coloured cell.
#[must_use]
pub fn toned(text: impl ToString, tone: Tone) -> Cell {
    cell(text).fg(match tone {
        Tone::Good => Color::Green,
        Tone::Note => Color::Yellow,
        Tone::Bad => Color::Red,
    })
}

/// The value, or `-`.
#[must_use]
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
