//! Tables: one observation a row, with a schema beside them.

use serde::Serialize;

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its header: a field name in `snake_case`.
    pub name: &'static str,
    /// Its unit, or the quantity it counts; `1` for a pure number.
    pub unit: &'static str,
    /// What it holds.
    pub description: &'static str,
}

/// The column with this name, unit and description.
pub(crate) fn column(name: &'static str, unit: &'static str, description: &'static str) -> Column {
    Column { name, unit, description }
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

impl From<Option<f64>> for Value {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Missing, Self::Number)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl Value {
    /// The median of some numbers; missing of none.
    pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() {
            Self::Missing
        } else {
            Self::Number(crate::statistics::median(&values))
        }
    }

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
            Self::Number(value) => crate::short_number(*value),
            other => other.to_field(),
        }
    }
}

/// A number with the fewest digits that give it back.
pub fn number(value: f64) -> String {
    serde_json::Number::from_f64(value)
        .map_or_else(|| value.to_string().to_lowercase(), |number| number.to_string())
}

/// A table in long form.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
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
    use super::{Column, Table, Value};

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
}
