//! Numbers and tables for a reader.

use std::fmt::Write as _;

/// A number to so many significant digits, without zeros at the end.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "—"
        } else if value > 0.0 {
            "∞"
        } else {
            "−∞"
        }
        .to_owned();
    }
    // As rounded: 9.9999997 to six digits is 10.
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let strip = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    match usize::try_from(exponent) {
        Ok(large) if large >= digits.max(7) => format!("{}e{exponent}", strip(mantissa)),
        Ok(whole) => strip(&format!("{value:.*}", digits.saturating_sub(1).saturating_sub(whole))),
        Err(_) if exponent < -5 => format!("{}e{exponent}", strip(mantissa)),
        Err(_) => {
            let places = digits.saturating_sub(1) + exponent.unsigned_abs() as usize;
            strip(&format!("{value:.places$}"))
        }
    }
}

/// A ratio, as in `1.03 times`.
pub(crate) fn times(ratio: f64) -> String {
    format!("{} times", significant(ratio, if ratio < 100.0 { 3 } else { 4 }))
}

/// Columns of text, the first to the left and the others to the right, two spaces apart and indented;
/// without a header line when there are no names.
pub(crate) fn table(names: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let lines: Vec<&[String]> = (!names.is_empty())
        .then_some(header.as_slice())
        .into_iter()
        .chain(rows.iter().map(Vec::as_slice))
        .collect();
    let columns = lines.iter().map(|line| line.len()).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (column, cell) in line.iter().enumerate() {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            let _ = match column {
                0 => write!(row, "  {cell}{padding}"),
                _ => write!(row, "  {padding}{cell}"),
            };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{significant, table};

    #[test]
    fn numbers_keep_their_digits() {
        let check = |value: f64, digits, text: &str| assert_eq!(significant(value, digits), text);
        check(0.012_345_678_9, 6, "0.0123457");
        check(9.999_999_7, 6, "10");
        check(123_456.7, 6, "123457");
        check(1_234_567.0, 6, "1234567");
        check(12_345_678.0, 6, "1.23457e7");
        check(1e-9, 6, "1e-9");
        check(0.000_012_3, 6, "0.0000123");
        check(-2.5, 6, "-2.5");
        check(0.0, 6, "0");
        check(100.0, 3, "100");
        check(f64::INFINITY, 6, "∞");
        check(0.1, 15, "0.1");
        check(5e-324, 6, "4.94066e-324");
        check(0.999_999_9, 6, "1");
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["1".to_owned(), "0.5".to_owned()], vec!["64".to_owned(), "∞".to_owned()]];
        assert_eq!(table(&["B", "η*"], &rows), "  B    η*\n  1   0.5\n  64    ∞\n");
        assert_eq!(table(&[], &rows[..1]), "  1  0.5\n");
    }
}
