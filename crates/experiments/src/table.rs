//! Tables: one observation a row, with a schema beside them.

use serde::Serialize;

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its header: a field name in `snake_case`.
    pub name: &'static str,
    /// Its unit, or the quantity it counts; `1` for a pure number.
    pub unit: &'static str,
    /// Its meaning.
    pub description: &'static str,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A word.
    Text(String),
    /// A number, written with the fewest digits that give it back.
    Number(f64),
    /// A count.
    Integer(u64),
    /// Nothing: an empty field.
    Missing,
}

macro_rules! value_of {
    ($($from:ty: $value:expr;)+) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                $value(value)
            }
        })+
    };
}

value_of! {
    f64: Self::Number;
    u64: Self::Integer;
    usize: |count| Self::Integer(count as u64);
    String: Self::Text;
    &str: |text: &str| Self::Text(text.to_owned());
    bool: |is_true| Self::from(if is_true { "yes" } else { "no" });
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, T::into)
    }
}

impl Value {
    /// The text of a CSV field. A number that is not finite is `inf`, `-inf` or `nan`.
    pub fn to_field(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(value) => number(*value),
            Self::Integer(value) => value.to_string(),
            Self::Missing => String::new(),
        }
    }

    /// The text for a reader: numbers to four digits.
    pub fn to_short_field(&self) -> String {
        match self {
            Self::Number(value) => short_number(*value),
            other => other.to_field(),
        }
    }
}

/// A number with the fewest digits that give it back.
pub fn number(value: f64) -> String {
    serde_json::Number::from_f64(value)
        .map_or_else(|| value.to_string().to_lowercase(), |number| number.to_string())
}

/// Four significant digits, in scientific notation where that is shorter to read.
pub fn short_number(value: f64) -> String {
    if !value.is_finite() {
        return number(value);
    }
    let size = value.abs();
    if size <= 0.0 {
        return "0".to_owned();
    }
    if (1e-3..1e5).contains(&size) {
        // Digits after the point that leave four in all.
        let limits = [1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2];
        let digits = limits.iter().position(|limit| size >= *limit).unwrap_or(limits.len());
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            return text.trim_end_matches('0').trim_end_matches('.').to_owned();
        }
        return text;
    }
    format!("{value:.2e}")
}

/// A table in long form.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// A table with a row for each item, from the name, the unit and the description of every column
/// and the value it holds for an item.
macro_rules! table {
    (
        $items:expr,
        |$item:pat_param| { $($name:literal, $unit:literal, $description:literal => $value:expr;)* }
    ) => {
        $crate::table::Table {
            columns: vec![
                $($crate::table::Column { name: $name, unit: $unit, description: $description }),*
            ],
            rows: $items
                .iter()
                .map(|$item| vec![$($crate::table::Value::from($value)),*])
                .collect(),
        }
    };
}
pub(crate) use table;

impl Table {
    /// Inserts the columns of another table with as many rows, before the column at `position`.
    pub(crate) fn insert_columns(&mut self, position: usize, other: Self) {
        self.columns.splice(position..position, other.columns);
        for (row, added) in self.rows.iter_mut().zip(other.rows) {
            row.splice(position..position, added);
        }
    }

    /// The CSV text (RFC 4180, line feeds, a header line).
    ///
    /// # Errors
    /// When a row is not as long as the header.
    pub fn to_csv(&self) -> Result<String, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.columns.iter().map(|column| column.name))?;
        for row in &self.rows {
            writer.write_record(row.iter().map(Value::to_field))?;
        }
        let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The schema: name, unit and description of every column, as JSON.
    pub fn schema_json(&self, id: &str) -> String {
        let schema = serde_json::json!({
            "schema": "flatmin.table/1",
            "table": id,
            "columns": self.columns,
        });
        format!("{schema:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, Table, Value, short_number};

    #[test]
    fn numbers_round_trip_and_words_are_quoted() {
        let column = |name| Column { name, unit: "1", description: "test" };
        let table = Table {
            columns: vec![column("word"), column("value"), column("none")],
            rows: vec![
                vec!["a,b".into(), Value::Number(0.1), Value::Missing],
                vec!["c".into(), Value::Number(1e-300), Value::Number(f64::INFINITY)],
            ],
        };
        assert_eq!(table.to_csv().unwrap(), "word,value,none\n\"a,b\",0.1,\nc,1e-300,inf\n");
    }

    #[test]
    fn a_short_row_is_an_error() {
        let column = Column { name: "a", unit: "1", description: "test" };
        let table = Table { columns: vec![column.clone(), column], rows: vec![vec!["x".into()]] };
        assert!(table.to_csv().is_err());
    }

    #[test]
    fn short_numbers_have_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.98765, "0.9877"),
            (123.456, "123.5"),
            (4491.2, "4491"),
            (1.23456e-7, "1.23e-7"),
            (2.0e6, "2.00e6"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(short_number(value), text);
        }
    }

    #[test]
    fn a_table_of_items_has_a_row_for_each() {
        let items = [1.5, 2.0];
        let mut table = table!(&items, |x| {
            "x", "1", "the number" => *x;
            "half", "1", "half of small ones" => (*x < 1.8).then_some(0.5 * x);
        });
        let large = table!(&items, |x| { "large", "word", "above 1.8" => *x > 1.8; });
        table.insert_columns(1, large);
        assert_eq!(table.to_csv().unwrap(), "x,large,half\n1.5,no,0.75\n2.0,yes,\n");
    }
}
