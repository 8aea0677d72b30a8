//! Docker's lists: one template for all rows, `table` for headings and columns, `json` for an object a line.

use std::collections::BTreeMap;

use super::value::{Struct, Value};
use super::{MissingKey, Template, TemplateError};
use crate::ui::visible;

/// How a list is to look: Docker's `--format`.
#[derive(Debug)]
pub(crate) struct Listing {
    template: Template,
    is_table: bool,
}

/// A row: its fields by the names that templates use.
pub(crate) type Row = Struct;

impl Listing {
    /// What `--format` says: a template, `json`, or `table` and a template; `table` alone is `default`.
    ///
    /// # Errors
    /// Where the template is none.
    pub(crate) fn new(format: &str, default: &str) -> Result<Self, TemplateError> {
        let format = if format.is_empty() || format == "table" { default } else { format };
        let (is_table, text) = match format.strip_prefix("table") {
            Some(rest) => (true, rest),
            None if format == "json" => (false, "{{json .}}"),
            None => (false, format),
        };
        let text = text.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        Ok(Self { template: Template::parse(&text)?, is_table })
    }

    /// The list. `headings` are by field; a heading for what is left out does no harm.
    ///
    /// # Errors
    /// Where the template asks for a field that rows do not have.
    pub(crate) fn render(&self, headings: &[(&'static str, &str)], rows: Vec<Row>) -> Result<String, TemplateError> {
        let mut body = String::new();
        for row in rows {
            body.push_str(&self.template.execute(&Value::from(sorted(row)), MissingKey::NoValue)?);
            body.push('\n');
        }
        if !self.is_table {
            return Ok(body);
        }
        // Headings are a map of texts which knows how to call a label.
        let mut entries: BTreeMap<String, Value> =
            headings.iter().map(|(field, heading)| ((*field).to_owned(), (*heading).into())).collect();
        let label = Struct::new("").method("Label", label_heading);
        entries.extend(label.get("Label").map(|method| ("Label".to_owned(), method.clone())));
        // As in Docker, headings that cannot be made are none.
        let header = self.template.execute_header(&Value::map("string", entries)).unwrap_or_default();
        Ok(columns(&visible(&format!("{header}\n{body}"))))
    }
}

/// Docker writes rows as JSON with their fields in order of name.
fn sorted(mut row: Row) -> Row {
    row.fields.sort_by(|a, b| a.name.cmp(&b.name));
    row
}

/// `com.example.my-label` as `my label`.
fn label_heading(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).replace(['-', '_'], " ")
}

/// Narrowest column, with its padding.
const NARROWEST: usize = 10;
const PADDING: usize = 3;

/// Text with tabs as columns: each column of lines that follow each other is as wide as its widest cell. What stands
/// after the last tab of a line is in no column.
pub(crate) fn columns(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut out = vec![String::new(); lines.len()];
    layout(&lines, &mut out, 0, 0..lines.len());
    out.join("\n")
}

/// Writes the cells from `column` on of some lines.
fn layout(lines: &[Vec<&str>], out: &mut [String], column: usize, range: std::ops::Range<usize>) {
    let mut index = range.start;
    while index < range.end {
        if lines[index].len() <= column + 1 {
            // The rest of the line.
            out[index].push_str(lines[index].get(column).unwrap_or(&""));
            index += 1;
            continue;
        }
        let block = (index..range.end).take_while(|line| lines[*line].len() > column + 1).count();
        let block = index..index + block;
        let width = |line: usize| lines[line][column].chars().count();
        let widest = block.clone().map(width).max().unwrap_or(0);
        let padded = NARROWEST.max(widest + PADDING);
        for line in block.clone() {
            out[line].push_str(lines[line][column]);
            out[line].push_str(&" ".repeat(padded - width(line)));
        }
        layout(lines, out, column + 1, block.clone());
        index = block.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |id: &str, name: &str| Row::new("*formatter.ContainerContext").field("Names", name).field("ID", id);
        vec![row("1", "a-very-long-name"), row("2", "b").method("Label", |name| format!("<{name}>"))]
    }

    const HEADINGS: &[(&str, &str)] = &[("ID", "CONTAINER ID"), ("Names", "NAMES")];

    fn list(format: &str) -> Result<String, TemplateError> {
        Listing::new(format, "table {{.ID}}\t{{.Names}}")?.render(HEADINGS, rows())
    }

    #[test]
    fn a_table_has_headings_and_columns() {
        let text = "CONTAINER ID   NAMES\n1              a-very-long-name\n2              b\n";
        assert_eq!(list("").unwrap(), text);
        assert_eq!(list("table").unwrap(), text);
        assert_eq!(
            list(r"table {{upper .Names}}\t{{.ID}}").unwrap(),
            "NAMES              CONTAINER ID\nA-VERY-LONG-NAME   1\nB                  2\n"
        );
    }

    #[test]
    fn json_is_an_object_a_line_in_order_of_name() {
        let lines = "{\"ID\":\"1\",\"Names\":\"a-very-long-name\"}\n{\"ID\":\"2\",\"Names\":\"b\"}\n";
        assert_eq!(list("json").unwrap(), lines);
        assert_eq!(list("{{json .}}").unwrap(), lines);
        assert_eq!(list("{{.ID}}").unwrap(), "1\n2\n");
    }

    #[test]
    fn what_rows_do_not_have_is_an_error() {
        let error = list("{{.Nope}}").unwrap_err().to_string();
        assert_eq!(
            error,
            "template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *formatter.ContainerContext"
        );
    }

    #[test]
    fn labels_have_headings() {
        let row = Row::new("*formatter.ContainerContext").method("Label", |name| format!("<{name}>"));
        let text = Listing::new(r#"table {{.Label "com.example.my-app"}}"#, "").unwrap().render(&[], vec![row]);
        assert_eq!(text.unwrap(), "my app\n<com.example.my-app>\n");
    }

    #[test]
    fn columns_are_those_of_neighbours() {
        assert_eq!(
            columns("a\tb\nlonger-than-ten\tc\nx\ny\tz\n"),
            "a                 b\nlonger-than-ten   c\nx\ny         z\n"
        );
        assert_eq!(columns("a\t\tb\n"), "a                   b\n");
    }
}
