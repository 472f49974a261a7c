//! Columns of text.

/// The side of a column at which its fields are flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// Lines of fields as text: every column as wide as its longest field, two spaces apart, a line end
/// after each line. A line may have fewer fields than others.
///
/// ```
/// use flatmin_host::{Align, aligned};
///
/// let lines = [["B", "η*"], ["1", "0.5"], ["64", "∞"]];
/// let align = |column| if column == 0 { Align::Left } else { Align::Right };
/// assert_eq!(aligned(&lines, align), "B    η*\n1   0.5\n64    ∞\n");
/// ```
pub fn aligned<L, F>(lines: &[L], align: impl Fn(usize) -> Align) -> String
where
    L: AsRef<[F]>,
    F: AsRef<str>,
{
    let length = |field: &F| field.as_ref().chars().count();
    let mut widths: Vec<usize> = Vec::new();
    for line in lines.iter().map(AsRef::as_ref) {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, field) in widths.iter_mut().zip(line) {
            *width = length(field).max(*width);
        }
    }
    let mut text = String::new();
    for line in lines.iter().map(AsRef::as_ref) {
        let fields = line.iter().zip(&widths).enumerate().map(|(column, (field, &width))| {
            let (field, padding) = (field.as_ref(), " ".repeat(width - length(field)));
            match align(column) {
                Align::Left => format!("{field}{padding}"),
                Align::Right => format!("{padding}{field}"),
            }
        });
        text += fields.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Align, aligned};

    #[test]
    fn columns_are_as_wide_as_their_longest_field() {
        let lines = [vec!["id", "violations", "on"], vec!["S2", "0", "instance 17"], vec!["S10"]];
        let align = |column| if column == 1 { Align::Right } else { Align::Left };
        let expected = "id   violations  on\nS2            0  instance 17\nS10\n";
        assert_eq!(aligned(&lines, align), expected);
        assert_eq!(aligned(&[] as &[Vec<&str>], align), "");
    }
}
